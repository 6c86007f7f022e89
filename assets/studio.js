// The studio in the browser: hands each of our components its place on the page. Everything else is in js/.
import { mountAdjudication } from "./js/adjudication.js";
import { mountBoard } from "./js/board.js";
import { mountCorrect } from "./js/correct.js";
import { mountComparison } from "./js/comparison.js";
import { mountDoctorReport } from "./js/doctor_report.js";
import { mountEvaluationHead, mountFacts } from "./js/evaluation.js";
import { mountFigure } from "./js/figure.js";
import { mountImportPreview } from "./js/import_preview.js";
import { mountJobView } from "./js/job_view.js";
import { mountLeaderboard } from "./js/leaderboard.js";
import { mountNotice } from "./js/notice.js";
import { mountPicker } from "./js/picker.js";
import { mountRewardInspector } from "./js/reward_inspector.js";
import { mountSummary } from "./js/summary.js";
import { mountTable } from "./js/table.js";
import { mountTraceView } from "./js/trace_view.js";
import { dressPage } from "./js/page.js";

const KINDS = {
  adjudication: mountAdjudication,
  board: mountBoard,
  correct: mountCorrect,
  comparison: mountComparison,
  "doctor-report": mountDoctorReport,
  "evaluation-head": mountEvaluationHead,
  facts: mountFacts,
  figure: mountFigure,
  "import-preview": mountImportPreview,
  "job-view": mountJobView,
  leaderboard: mountLeaderboard,
  notice: mountNotice,
  picker: mountPicker,
  "reward-inspector": mountRewardInspector,
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
