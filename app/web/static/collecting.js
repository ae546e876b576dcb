// From images to a data set to a patch: waits for the data set, then opens the form of a patch on it.
import { api, tell } from "./site.js";

const pause = (/** @type {number} */ milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

/**
 * The parameters that fill in the form of a patch.
 * @param {Record<string, any>} patch the request that the service suggests
 */
function fillIn({ name = "", tasks, supported = [], anchors = null, base = null }) {
  const query = new URLSearchParams({ name });
  for (const id of tasks) query.append("task", id);
  for (const id of supported) query.append("supported", id);
  if (anchors?.dataset) query.append("anchors", anchors.dataset);
  const options = Object.fromEntries(Object.entries({ base, anchors }).filter(([, value]) => value !== null));
  if (Object.keys(options).length) query.append("options", JSON.stringify(options, (_, value) => value ?? undefined));
  return query;
}

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
    location.assign(`${form.dataset.new}?${fillIn(answer.patch ?? { tasks: [dataset.id] })}`);
  } catch (error) {
    note.hidden = true;
    button.disabled = false;
    tell(form, error);
    const place = form.querySelector(".problem");
    if (place && error instanceof Error && error.message) place.textContent = error.message;
  }
}
