// From images to a data set to a patch: waits for the data set, then opens the form of a patch on it.
import { api, tell } from "./site.js";

const pause = (/** @type {number} */ milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

/**
 * Makes a data set and leads to the form of a new patch.
 * @param {HTMLFormElement} form
 * @param {Record<string, unknown>} body
 */
export async function collect(form, body) {
  const button = /** @type {HTMLButtonElement} */ (form.querySelector("button"));
  const note = /** @type {HTMLElement} */ (form.querySelector(".note"));
  button.disabled = true;
  note.hidden = false;
  note.textContent = "The data set is being made.";
  tell(form);
  try {
    const answer = await api("POST", form.dataset.collect ?? "", { json: body });
    const dataset = answer.dataset ?? answer;
    for (;;) {
      const job = await api("GET", `${form.dataset.jobs}${dataset.job_id}`);
      if (job.status === "succeeded") break;
      if (job.status === "failed" || job.status === "cancelled") throw new Error(job.error?.detail);
      await pause(500);
    }
    const tasks = answer.patch?.tasks ?? [dataset.id];
    const query = new URLSearchParams(tasks.map((/** @type {string} */ id) => ["task", id]));
    for (const id of answer.patch?.supported ?? []) query.append("supported", id);
    if (answer.patch?.anchors?.dataset) query.append("anchors", answer.patch.anchors.dataset);
    location.assign(`${form.dataset.new}?${query}`);
  } catch (error) {
    note.hidden = true;
    button.disabled = false;
    tell(form, error);
    const place = form.querySelector(".problem");
    if (place && error instanceof Error && error.message) place.textContent = error.message;
  }
}
