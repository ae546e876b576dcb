// The start of an evaluation, and the way from a cell of the confusion matrix to a patch.
import { api, tell } from "./site.js";
import { collect } from "./collecting.js";

const evaluate = document.getElementById("evaluate");
evaluate?.addEventListener("submit", async (event) => {
  event.preventDefault();
  const form = /** @type {HTMLFormElement} */ (event.target);
  const fields = new FormData(form);
  const body = { versions: fields.getAll("versions").map(Number), dataset: fields.get("dataset"), split: fields.get("split") };
  try {
    const started = await api("POST", form.dataset.start ?? "", { json: body });
    location.assign(`${form.dataset.next}${started.evaluation.id}`);
  } catch (error) {
    tell(form, error);
  }
});
document.getElementById("collect")?.addEventListener("submit", (event) => {
  event.preventDefault();
  const form = /** @type {HTMLFormElement} */ (event.target);
  const fields = new FormData(form);
  const { evaluation, version, label, predicted } = form.dataset;
  const judged = { evaluation, version: Number(version) };
  /** @type {Record<string, unknown>[]} */
  const from = [{ ...judged, ...(label ? { label } : {}), ...(predicted ? { predicted } : {}), ...(label || predicted ? {} : { wrong: true }) }];
  if (label && predicted && label !== predicted) from.push({ ...judged, label: predicted }); // the class that it was taken for
  void collect(form, { name: fields.get("name"), from, splits: "by_content", ...(fields.get("allow_test_images") ? { allow_test_images: true } : {}) });
});
