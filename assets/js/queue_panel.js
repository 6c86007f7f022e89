// Beside the desk: who corrects, what is in the queue and in which order, how far and how fast it goes.
import { count, h, plural, seconds, setShare, setText, shareBar } from "./dom.js";

const KEPT = "ranking-studio.queue";
const ORDERS = [["uncertainty", "Where it teaches most"], ["random", "At random"], ["dataset", "As in the dataset"]];
const STARTS = [["model", "The model’s ranking"], ["blank", "Nothing ranked"], ["blind", "Blind: model hidden"]];
const WHY = {
  uncertainty: "First the tasks whose exclusions were a toss-up, on which models or people disagree, or whose relevant candidate is ranked low.",
  random: "In an order of your own.",
  dataset: "In the order of the file.",
};

/** @param {(change: object) => void} onChange what a person chose: {name} | {dataset} | {order_by} | {start} | {overlap} */
export function makeQueuePanel(onChange) {
  const choice = { name: "", dataset: "", order_by: "uncertainty", start: "model", ...kept() };
  const field = (id, label, control) => h("div.rs-field", {}, h("label.rs-label", { for: id }, label), control);
  const select = (id, name, options) => h("select.rs-select", { id, onchange: (event) => set({ [name]: event.target.value }) }, options.map(([value, text]) => h("option", { value }, text)));
  const name = h("input.rs-input", { id: "rs-author", type: "text", maxlength: "80", autocomplete: "nickname", onchange: () => name.value.trim() && set({ name: name.value.trim() }) });
  const dataset = select("rs-queue-dataset", "dataset", []);
  const orderBy = select("rs-queue-order", "order_by", ORDERS);
  const start = select("rs-queue-start", "start", STARTS);
  const overlap = h("input.rs-input", { id: "rs-queue-overlap", type: "number", min: "1", step: "1", onchange: () => overlap.checkValidity() && onChange({ overlap: Number(overlap.value) }) });
  const why = h("p.rs-sub");
  const bar = shareBar(0);
  const [done, pace] = [h("p.rs-num"), h("p.rs-sub.rs-num")];
  const progress = h("div.rs-progress", { hidden: true }, done, bar, pace);
  const settings = h("details.rs-details.rs-queue", { open: window.innerWidth > 900 }, h("summary", {}, "Queue"), h("div.rs-queue-fields", {}, field("rs-author", "Your name", name), field("rs-queue-dataset", "Dataset", dataset), field("rs-queue-order", "First", orderBy), why, field("rs-queue-start", "Start from", start), field("rs-queue-overlap", "People a task", overlap)));
  const node = h("div.rs-queue-panel", {}, settings, progress);

  function set(change) {
    Object.assign(choice, change);
    keep(choice);
    paint();
    onChange(change);
  }
  function paint() {
    name.value = choice.name;
    dataset.value = choice.dataset;
    orderBy.value = choice.order_by;
    start.value = choice.start;
    setText(why, WHY[choice.order_by]);
  }
  return {
    node,
    choice,
    /** The datasets that there are; one that is gone is not chosen any more. */
    offer(datasets, maxOverlap) {
      dataset.replaceChildren(...datasets.map((option) => h("option", { value: option.id }, `${option.name} (${count(option.num_tasks)})`)));
      if (!datasets.some((option) => option.id === choice.dataset)) choice.dataset = datasets[0]?.id ?? "";
      overlap.max = String(maxOverlap);
      paint();
    },
    /** The task that is open came by an address: the queue goes on in its dataset. */
    follow(id) {
      if (dataset.querySelector(`option[value="${CSS.escape(id)}"]`)) choice.dataset = id;
      keep(choice);
      paint();
    },
    /** The name is that of an account: it is not chosen here. */
    account(words) {
      name.disabled = true;
      choice.name = words;
      paint();
    },
    lead: (mayLead) => (overlap.disabled = !mayLead),
    remember(change) {
      Object.assign(choice, change);
      keep(choice);
    },
    name(words) {
      choice.name = words;
      keep(choice);
      paint();
    },
    show(standing) {
      progress.hidden = !standing;
      if (!standing) return;
      setText(done, `${count(standing.num_done)} of ${plural(standing.num_tasks, "task")} done${standing.num_skipped ? `, ${count(standing.num_skipped)} skipped` : ""}`);
      setShare(bar, standing.num_done / Math.max(1, standing.num_tasks));
      setText(pace, [standing.num_today && `${plural(standing.num_today, "correction")} today`, standing.median_s !== null && `${seconds(standing.median_s)} each`].filter(Boolean).join(", "));
      if (document.activeElement !== overlap) overlap.value = String(standing.overlap);
    },
  };
}

function kept() {
  try {
    return JSON.parse(localStorage.getItem(KEPT)) ?? {};
  } catch {
    return {};
  }
}

function keep(choice) {
  try {
    localStorage.setItem(KEPT, JSON.stringify(choice));
  } catch {
    // it is asked for again next time
  }
}
