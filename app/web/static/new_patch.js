// The form of a new patch: what it would do, and the start.
import { api, root, tell } from "./site.js";

const form = /** @type {HTMLFormElement} */ (document.getElementById("patch"));
const answer = /** @type {HTMLElement} */ (document.getElementById("answer"));

/** The body of `POST /v1/patches` that the form describes. */
function request() {
  const fields = new FormData(form);
  const tasks = fields.getAll("tasks").map(String);
  const supported = fields.getAll("supported").map(String).filter((each) => !tasks.includes(each));
  /** @type {Record<string, any>} */
  const body = { name: fields.get("name"), tasks, supported, method: tasks.length > 1 ? "joint" : "single" };
  if (supported.length) body.alpha = { max_mean_drop: Number(fields.get("mean")) };
  const pool = String(fields.get("anchors") ?? "");
  if (pool && !tasks.includes(pool) && !supported.includes(pool)) body.anchors = { dataset: pool };
  if (fields.get("iterations")) body.finetune = { iterations: Number(fields.get("iterations")) };
  if (fields.get("activate")) body.activate = "if_certified";
  return body;
}

/** @param {Record<string, any>} body */
function command(body) {
  const words = ["paintbox patch", ...body.tasks.map((/** @type {string} */ id) => `--task ${id}`)];
  words.push(...body.supported.map((/** @type {string} */ id) => `--supported ${id}`));
  if (body.method === "joint") words.push("--method joint");
  if (body.alpha) words.push(`--rule certified --max-mean-drop ${body.alpha.max_mean_drop}`);
  if (body.anchors) words.push(`--anchors ${body.anchors.dataset}`);
  if (body.finetune) words.push(`--iterations ${body.finetune.iterations}`);
  if (body.activate) words.push("--activate if_certified");
  return words.join(" \\\n  ");
}

/** @param {Element} place @param {string} kind @param {string} text */
function add(place, kind, text) {
  const line = place.appendChild(document.createElement("p"));
  line.className = kind;
  line.textContent = text;
}

/** @param {any} check */
function show(check) {
  const place = /** @type {HTMLElement} */ (answer.querySelector(".result"));
  place.replaceChildren();
  const minutes = (/** @type {number} */ seconds) => (seconds < 120 ? `${Math.round(seconds)} s` : `${Math.round(seconds / 60)} min`);
  const time = check.estimate ? `about ${minutes(check.estimate.seconds)} (${minutes(check.estimate.low)} to ${minutes(check.estimate.high)})` : "an unknown time: no patch of this base has succeeded yet";
  add(place, "", `${check.num_steps ?? "?"} optimizer steps; it takes ${time}.`);
  for (const limit of check.certification)
    add(place, "", `${limit.dataset === null ? "The mean of the supported tasks" : (check.datasets.find((/** @type {any} */ each) => each.id === limit.dataset)?.name ?? limit.dataset)}: ${limit.images_needed} validation images certify a drop of at most ${limit.max_drop} points; there are ${limit.num_images}.`);
  for (const warning of check.warnings) add(place, "warning", warning);
  /** @type {HTMLElement} */ (answer.querySelector("code")).textContent = command(request());
  answer.hidden = false;
}

/** @param {() => Promise<void>} act */
async function attempt(act) {
  tell(form);
  const buttons = form.querySelectorAll("button");
  buttons.forEach((button) => (button.disabled = true));
  try {
    await act();
  } catch (error) {
    tell(form, error);
  } finally {
    buttons.forEach((button) => (button.disabled = false));
  }
}

document.getElementById("check")?.addEventListener("click", () => void attempt(async () => show(await api("POST", `${root}/v1/patches/check`, { json: request() }))));
form.addEventListener("submit", (event) => {
  event.preventDefault();
  void attempt(async () => {
    const started = await api("POST", `${root}/v1/patches`, { json: request() });
    location.assign(`${root}/ui/patches/${started.patch.id}`);
  });
});
