// Figures: the plotly.js that belongs to the installed plotly.py, in the colours of the page, zoom kept between updates.
import { h } from "./dom.js";

let loading = null;

/** plotly.js is 4.5 MB: fetched once, when the first figure is drawn. */
function plotly() {
  loading ??= new Promise((resolve, reject) => {
    const script = h("script", { src: "/vendor/plotly.min.js" });
    script.onload = () => resolve(window.Plotly);
    script.onerror = () => {
      loading = null;
      reject(new Error("plotly.min.js did not load"));
    };
    document.head.append(script);
  });
  return loading;
}

export const token = (name) => getComputedStyle(document.body).getPropertyValue(`--rs-${name}`).trim();

/** plotly reads a little HTML in its texts; dataset text must stay text. */
export const plain = (text) => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");

function dressed(layout) {
  const axis = { gridcolor: token("line"), zerolinecolor: token("line"), linecolor: token("line"), tickcolor: token("line") };
  const result = {
    autosize: true,
    uirevision: "keep",
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    margin: { l: 48, r: 16, t: 8, b: 40 },
    showlegend: false,
    ...layout,
    font: { color: token("ink-2"), family: getComputedStyle(document.querySelector(".gradio-container") ?? document.body).fontFamily, size: 12, ...layout.font },
    hoverlabel: { bgcolor: token("raised"), bordercolor: token("line-strong"), font: { color: token("ink"), size: 12 } },
  };
  delete result.template;
  for (const key of Object.keys(result).filter((name) => /^[xy]axis\d*$/.test(name)).concat("xaxis", "yaxis")) {
    result[key] = { ...axis, ...result[key] };
  }
  return result;
}

const CONFIG = {
  responsive: true,
  displaylogo: false,
  displayModeBar: false,
  modeBarButtonsToRemove: ["sendDataToCloud"],
};

/**
 * Draw (or update) a figure.
 * @param {HTMLElement} box
 * @param {() => {data: object[], layout: object, alt: string}} make called again when light turns to dark
 */
export async function draw(box, make) {
  box.makeFigure = make;
  const Plotly = await plotly();
  if (!box.isConnected || box.makeFigure !== make) return;
  const { data, layout, alt } = make();
  box.setAttribute("role", "img");
  box.setAttribute("aria-label", alt);
  await Plotly.react(box, data, dressed(layout), CONFIG);
}

export function mountFigure({ element, props, watch }) {
  const box = h("div.rs-figure", { "data-figure": true });
  const empty = h("p.rs-empty-line");
  element.replaceChildren(box, empty);
  const update = () => {
    const figure = props.value;
    box.hidden = !figure?.data;
    empty.hidden = Boolean(figure?.data);
    empty.textContent = figure?.empty ?? "";
    if (figure?.data) draw(box, () => ({ data: recoloured(figure.data), layout: recoloured(figure.layout ?? {}), alt: figure.alt ?? "Chart" }));
  };
  watch("value", update);
  update();
}

/** Traces made on the server carry no colours of their own but token names ("--rs-accent"); look them up. */
function recoloured(data) {
  return JSON.parse(JSON.stringify(data), (key, value) => (typeof value === "string" && value.startsWith("--rs-") ? token(value.slice(5)) : value));
}

new MutationObserver(() => {
  for (const box of document.querySelectorAll("[data-figure]")) if (box.makeFigure) draw(box, box.makeFigure);
}).observe(document.body, { attributes: true, attributeFilter: ["class"] });
