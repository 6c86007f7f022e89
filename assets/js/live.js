// Following a running trace: one EventSource, closed while the tab is hidden (browsers allow six connections per host).
import { fold, isOver } from "./trace.js";

const RETRY_MS = 1500;

/**
 * Follow a trace until it is over.
 * @param {string} traceId
 * @param {(trace: object, events: object[]) => void} onChange called once per message, after its events were folded in
 * @param {(net: "on"|"off"|"gone") => void} onNet the state of the connection
 * @returns {() => void} stop following
 */
export function follow(traceId, onChange, onNet) {
  let source = null;
  let trace = null;
  let retry = 0;
  let ended = false;

  function close() {
    clearTimeout(retry);
    source?.close();
    source = null;
  }
  function open() {
    if (ended || source || document.hidden) return;
    source = new EventSource(`/api/traces/${encodeURIComponent(traceId)}/events`);
    source.onopen = () => onNet("on");
    source.onmessage = (message) => {
      const events = JSON.parse(message.data);
      for (const event of events) trace = fold(trace, event);
      if (trace && isOver(trace)) {
        ended = true;
        close();
      }
      if (trace) onChange(trace, events);
    };
    source.onerror = () => {
      onNet(source?.readyState === EventSource.CLOSED ? "gone" : "off");
      close();
      retry = setTimeout(open, RETRY_MS);
    };
  }
  const onVisible = () => (document.hidden ? close() : open());
  document.addEventListener("visibilitychange", onVisible);
  open();
  return () => {
    ended = true;
    close();
    document.removeEventListener("visibilitychange", onVisible);
  };
}
