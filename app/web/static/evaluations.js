// The start of an evaluation, and the way from a cell of the confusion matrix to a patch.
import { api, tell } from "./site.js";
import { collect } from "./collecting.js";

/** @param {HTMLFormElement} form */
async function start(form) {
  const fields = new FormData(form);
  const body = { versions: fields.getAll("versions").map(Number), dataset: fields.get("dataset"), split: fields.get("split") };
  try {
    const started = await api("POST", form.getAttribute("data-start") ?? "", { json: body }); // a field hides form.dataset
    location.assign(`${form.getAttribute("data-next")}${started.evaluation.id}`);
  } catch (error) {
    tell(form, error);
  }
}

/** @param {HTMLFormElement} form */
function collectImages(form) {
  const fields = new FormData(form);
  const { evaluation, version, label, predicted } = form.dataset;
  const judged = { evaluation, version: Number(version) };
  /** @type {Record<string, unknown>[]} */
  const from = [{ ...judged, ...(label ? { label } : {}), ...(predicted ? { predicted } : {}), ...(label || predicted ? {} : { wrong: true }) }];
  if (label && predicted && label !== predicted) from.push({ ...judged, label: predicted }); // the class that it was taken for
  const allowed = fields.get("allow_test_images") ? { allow_test_images: true } : {};
  return collect(form, { name: fields.get("name"), from, splits: "by_content", ...allowed });
}

document.addEventListener("submit", (event) => {
  const form = event.target;
  if (!(form instanceof HTMLFormElement) || !["evaluate", "collect"].includes(form.id)) return;
  event.preventDefault();
  void (form.id === "evaluate" ? start(form) : collectImages(form));
});
