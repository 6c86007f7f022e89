// Dragging a row of a list with mouse, finger or pen. Pointer events: HTML's own drag and drop does nothing on a touch screen.
// A mouse takes a row anywhere, a finger by its grip only, because elsewhere it scrolls. Knows rows, not what they mean.
const THRESHOLD_PX = 4;
const EDGE_PX = 56;
const SCROLL_PX = 14;
const NO_DRAG = "button:not(.rs-grip), a, select, input, textarea, summary, details";

/**
 * @param {HTMLElement} list its children are the rows, each with data-id
 * @param {{onStart: (id) => void, onDrop: (id, to: number) => void, onCancel: (id) => void}} on
 */
export function makeDraggable(list, on) {
  let drag = null;
  let frame = 0;

  list.addEventListener("pointerdown", (event) => {
    const row = event.target.closest("li[data-id]");
    if (!row || drag || event.button || event.target.closest(NO_DRAG)) return;
    const byGrip = Boolean(event.target.closest(".rs-grip"));
    if (!byGrip && event.pointerType === "touch") return;
    drag = { row, id: row.dataset.id, pointer: event.pointerId, startY: event.clientY + window.scrollY, y: event.clientY, from: -1, to: -1 };
    if (byGrip && event.pointerType === "touch") event.preventDefault();
  });
  list.addEventListener("selectstart", (event) => drag && event.preventDefault());
  window.addEventListener("pointermove", (event) => {
    if (!drag || event.pointerId !== drag.pointer) return;
    drag.y = event.clientY;
    if (drag.from < 0 && Math.abs(event.clientY + window.scrollY - drag.startY) < THRESHOLD_PX) return;
    if (drag.from < 0) lift();
    follow();
  });
  window.addEventListener("pointerup", (event) => drag && event.pointerId === drag.pointer && drop(true));
  window.addEventListener("pointercancel", (event) => drag && event.pointerId === drag.pointer && drop(false));
  window.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !drag || drag.from < 0) return;
    event.preventDefault();
    event.stopPropagation();
    drop(false);
  }, true);

  function lift() {
    drag.rows = [...list.children];
    drag.boxes = drag.rows.map((row) => {
      const box = row.getBoundingClientRect();
      return { top: box.top + window.scrollY, height: box.height };
    });
    drag.from = drag.to = drag.rows.indexOf(drag.row);
    const [first, second] = drag.boxes;
    drag.room = drag.boxes[drag.from].height + (second ? second.top - first.top - first.height : 0);
    list.setPointerCapture?.(drag.pointer);
    drag.row.classList.add("is-dragged");
    list.classList.add("has-drag");
    on.onStart(drag.id);
    frame = requestAnimationFrame(scrollAtEdge);
  }

  function follow() {
    const { boxes, from, rows } = drag;
    const moved = drag.y + window.scrollY - drag.startY;
    const middle = boxes[from].top + boxes[from].height / 2 + moved;
    const middleOf = (index) => boxes[index].top + boxes[index].height / 2;
    let to = from;
    while (to < rows.length - 1 && middle > middleOf(to + 1)) to += 1;
    while (to > 0 && middle < middleOf(to - 1)) to -= 1;
    drag.to = to;
    rows.forEach((row, index) => {
      const shift = index > from && index <= to ? -drag.room : index < from && index >= to ? drag.room : 0;
      row.style.transform = index === from ? `translateY(${moved}px)` : shift ? `translateY(${shift}px)` : "";
    });
  }

  function scrollAtEdge() {
    if (!drag) return;
    const by = drag.y < EDGE_PX ? -SCROLL_PX : drag.y > window.innerHeight - EDGE_PX ? SCROLL_PX : 0;
    if (by) {
      window.scrollBy(0, by);
      follow();
    }
    frame = requestAnimationFrame(scrollAtEdge);
  }

  function drop(isDone) {
    const { id, row, rows, from, to } = drag;
    drag = null;
    cancelAnimationFrame(frame);
    if (from < 0) return;
    for (const other of rows) other.style.transform = "";
    row.classList.remove("is-dragged");
    list.classList.remove("has-drag");
    if (isDone && to !== from) on.onDrop(id, to);
    else on.onCancel(id);
  }

  return { isDragging: () => Boolean(drag && drag.from >= 0) };
}
