// The studio in the browser: hands each of our components its place on the page. Everything else is in js/.
import { mountAdjudication } from "./js/adjudication.js";
import { mountBoard } from "./js/board.js";
import { mountComparison } from "./js/comparison.js";
import { mountDoctorReport } from "./js/doctor_report.js";
import { mountEvaluationHead, mountFacts } from "./js/evaluation.js";
import { mountFigure } from "./js/figure.js";
import { mountImportPreview } from "./js/import_preview.js";
import { mountLeaderboard } from "./js/leaderboard.js";
import { mountNotice } from "./js/notice.js";
import { mountPicker } from "./js/picker.js";
import { mountSummary } from "./js/summary.js";
import { mountTable } from "./js/table.js";
import { mountTraceView } from "./js/trace_view.js";
import { dressPage } from "./js/page.js";

const KINDS = {
  adjudication: mountAdjudication,
  board: mountBoard,
  comparison: mountComparison,
  "doctor-report": mountDoctorReport,
  "evaluation-head": mountEvaluationHead,
  facts: mountFacts,
  figure: mountFigure,
  "import-preview": mountImportPreview,
  leaderboard: mountLeaderboard,
  notice: mountNotice,
  picker: mountPicker,
  summary: mountSummary,
  table: mountTable,
  "trace-view": mountTraceView,
};

/** Called by a component's js_on_load with what Gradio gives it. */
function mount(kind, gradio) {
  const place = gradio.element.querySelector(".rs-place") ?? gradio.element;
  KINDS[kind]({ ...gradio, element: place });
}

dressPage();
window.Studio = { mount };
window.dispatchEvent(new Event("studio:ready"));
