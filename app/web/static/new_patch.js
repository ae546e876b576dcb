// The form of a new patch: what it would do, and the start.
import { ApiProblem, api, root, tell } from "./site.js";

const form = /** @type {HTMLFormElement} */ (document.getElementById("patch"));
const answer = /** @type {HTMLElement} */ (document.getElementById("answer"));

/** @typedef {Record<string, any>} Json */

/**
 * The options that the form has no field for.
 * @returns {Json}
 */
function furtherOptions() {
  const text = new FormData(form).get("options")?.toString().trim();
  if (!text) return {};
  try {
    const options = JSON.parse(text);
    if (options === null || typeof options !== "object" || Array.isArray(options)) throw new SyntaxError("no object");
    return options;
  } catch (error) {
    throw new ApiProblem(`The further options are not a JSON object: ${/** @type {Error} */ (error).message}. Write them like {"folds": 5}.`);
  }
}

/**
 * The body of `POST /v1/patches` that the form describes: its fields over the further options.
 * @returns {Json}
 */
function request() {
  const fields = new FormData(form);
  const more = furtherOptions();
  const tasks = fields.getAll("tasks").map(String);
  const supported = fields.getAll("supported").map(String).filter((each) => !tasks.includes(each));
  const isInstant = fields.get("method") === "instant";
  const method = isInstant || fields.get("method") === "auto" || tasks.length > 1 ? fields.get("method") : "single";
  const own = { name: fields.get("name"), tasks, supported, method };
  /** @type {Json} */
  const body = { ...own, ...more, ...own };
  const isCertified = (more.alpha?.rule ?? "certified") === "certified";
  if (supported.length && isCertified) body.alpha = { ...more.alpha, max_mean_drop: Number(fields.get("mean")) };
  const pool = String(fields.get("anchors") ?? "");
  if (!pool && !isInstant && !more.anchors) body.anchors = null;
  if (pool === "drawn" && !isInstant) body.anchors = { ...more.anchors, drawn: true };
  else if (pool && !isInstant && !tasks.includes(pool) && !supported.includes(pool)) body.anchors = { ...more.anchors, dataset: pool };
  if (fields.get("iterations")) body.finetune = { ...more.finetune, iterations: Number(fields.get("iterations")) };
  if (fields.get("activate")) body.activate = "if_certified";
  return body;
}

/** @param {string} text */
const quoted = (text) => (/^[\w.,:/=+-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`);

/** Options of `paintbox patch`; all others are given with `--set`. */
const FLAGS = new Map([
  ["alpha.max_mean_drop", "--max-mean-drop"],
  ["anchors.dataset", "--anchors"],
  ["anchors.drawn", "--anchor-drawn"],
  ["anchors.weight", "--anchor-weight"],
  ["finetune.iterations", "--iterations"],
  ["finetune.tune", "--tune"],
  ["keep", "--keep"],
  ["activate", "--activate"],
  ["method", "--method"],
  ["base", "--base"],
  ["name", "--name"],
]);

/**
 * @param {Json} body
 * @returns {string[]}
 */
function flags(body, path = "") {
  return Object.entries(body).flatMap(([key, value]) => {
    const place = path + key;
    if (place === "tasks") return value.map((/** @type {string} */ id) => `--task ${quoted(id)}`);
    if (place === "anchors" && value === null) return "--no-anchors";
    if (place === "supported") return value.map((/** @type {string} */ id) => `--supported ${quoted(id)}`);
    if (value !== null && typeof value === "object" && !Array.isArray(value)) return flags(value, `${place}.`);
    if (value === true && FLAGS.has(place)) return FLAGS.get(place) ?? "";
    const text = typeof value === "string" ? value : JSON.stringify(value);
    return FLAGS.has(place) ? `${FLAGS.get(place)} ${quoted(text)}` : `--set ${quoted(`${place}=${text}`)}`;
  });
}

/** @param {Json} body */
const command = (body) => ["paintbox patch", ...flags(body)].join(" \\\n  ");

/** @param {Json} body */
function curl(body) {
  const words = [`curl ${quoted(`${location.origin}${root}/v1/patches`)}`, "-H 'Content-Type: application/json'"];
  if (form.dataset.key) words.push('-H "Authorization: Bearer $PAINTBOX_API_KEY"');
  return [...words, `-d ${quoted(JSON.stringify(body))}`].join(" \\\n  ");
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
  for (const [name, write] of /** @type {[string, (body: Json) => string][]} */ ([["command", command], ["curl", curl]]))
    /** @type {HTMLElement} */ (answer.querySelector(`.${name} code`)).textContent = write(request());
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
