// What all pages share: requests to the API, forms that send JSON, and parts of a page that stay up to date.

/** @param {string} name */
const meta = (name) => document.querySelector(`meta[name="${name}"]`)?.getAttribute("content") ?? "";

/** The prefix under which a proxy publishes the service. */
export const root = meta("root-path");

/** An error that the service described, with what to do next. */
export class ApiProblem extends Error {}

/**
 * Sends a request to the API and returns its JSON.
 * @param {string} method
 * @param {string} url
 * @param {{json?: unknown, body?: BodyInit, signal?: AbortSignal}} [options]
 */
export async function api(method, url, { json, body, signal } = {}) {
  /** @type {Record<string, string>} */
  const headers = { Accept: "application/json" };
  if (method !== "GET") headers["X-CSRF-Token"] = meta("csrf-token");
  if (json !== undefined) headers["Content-Type"] = "application/json";
  const response = await fetch(url, { method, headers, body: json === undefined ? body : JSON.stringify(json), signal });
  if (response.status === 204) return null;
  const answer = await response.json().catch(() => null);
  if (response.ok) return answer;
  if (response.status === 401) location.reload();
  throw new ApiProblem(answer ? `${answer.detail} ${answer.next}` : `The service answered with status ${response.status}.`);
}

/**
 * Shows a problem in the place that a form has for it, or hides it.
 * @param {Element} form
 * @param {unknown} [error]
 */
export function tell(form, error) {
  const place = form.querySelector(".problem");
  if (!(place instanceof HTMLElement)) return;
  place.hidden = error === undefined;
  place.textContent = error instanceof ApiProblem ? error.message : error === undefined ? "" : "The service does not respond. Try again.";
}

/** @param {HTMLFormElement} form */
function read(form) {
  /** @type {Record<string, unknown>} */
  const values = {};
  for (const field of form.elements) {
    if (!(field instanceof HTMLInputElement || field instanceof HTMLSelectElement) || !field.name) continue;
    if (field instanceof HTMLInputElement && field.dataset.key !== undefined) {
      if (field.value !== field.defaultValue) values[field.name] = { .../** @type {object} */ (values[field.name] ?? {}), [field.dataset.key]: field.value };
    } else if (field instanceof HTMLInputElement && field.type === "checkbox") {
      if (!("list" in field.dataset)) values[field.name] = field.checked;
      else if (field.checked) values[field.name] = [...(/** @type {string[]} */ (values[field.name] ?? [])), field.value];
    } else if (field.value !== "") {
      values[field.name] = field.type === "number" || field.dataset.type === "number" ? Number(field.value) : field.value;
    }
  }
  return values;
}

/** @param {HTMLFormElement} form */
async function send(form) {
  const [method, url] = (form.dataset.api ?? "").split(" ");
  const buttons = form.querySelectorAll("button");
  buttons.forEach((button) => (button.disabled = true));
  tell(form);
  try {
    const values = read(form);
    const answer = await api(method, url, Object.keys(values).length ? { json: values } : {});
    if (form.dataset.show && answer) {
      const shown = /** @type {HTMLElement} */ (form.querySelector(".shown"));
      shown.hidden = false;
      /** @type {HTMLElement} */ (shown.querySelector("code")).textContent = answer[form.dataset.show];
    } else if (form.dataset.next) location.assign(form.dataset.next.replace("{id}", answer?.id));
  } catch (error) {
    tell(form, error);
  } finally {
    buttons.forEach((button) => (button.disabled = false));
  }
}

document.addEventListener("submit", (event) => {
  if (event.target instanceof HTMLFormElement && event.target.dataset.api) {
    event.preventDefault();
    void send(event.target);
  }
});

/** Loads the page again and replaces the parts that may have changed. */
async function refresh() {
  const response = await fetch(location.href, { headers: { Accept: "text/html" } }).catch(() => null);
  if (!response?.ok) return;
  const fresh = new DOMParser().parseFromString(await response.text(), "text/html");
  for (const part of document.querySelectorAll("[data-live]")) {
    const other = fresh.getElementById(part.id);
    if (other && other.innerHTML !== part.innerHTML && !part.contains(document.activeElement)) part.replaceWith(other);
  }
}

/**
 * Listens to a stream of events while the page is visible: browsers open only six connections to a host, for all tabs.
 * @param {string} url
 * @param {Record<string, (event: MessageEvent) => void>} listeners by the name of the event
 * @param {() => void} [onReturn] called when the page is visible again, before events arrive
 * @returns {() => void} ends it
 */
export function listen(url, listeners, onReturn) {
  /** @type {EventSource | null} */
  let stream = null;
  const open = () => {
    stream = new EventSource(url);
    for (const [name, listener] of Object.entries(listeners)) stream.addEventListener(name, listener);
  };
  const close = () => {
    stream?.close();
    stream = null;
  };
  const onChange = () => {
    if (document.visibilityState === "hidden") return close();
    if (stream) return;
    onReturn?.();
    open();
  };
  document.addEventListener("visibilitychange", onChange);
  addEventListener("pagehide", close);
  if (document.visibilityState === "visible") open();
  return () => {
    document.removeEventListener("visibilitychange", onChange);
    close();
  };
}

if (document.querySelector("[data-live]")) {
  /** @type {number | undefined} */
  let timer;
  const later = () => {
    clearTimeout(timer);
    timer = setTimeout(refresh, 300);
  };
  const showProgress = (/** @type {MessageEvent} */ event) => {
    const job = JSON.parse(event.data);
    for (const bar of document.querySelectorAll(`progress[data-job="${CSS.escape(job.id)}"]`))
      if (bar instanceof HTMLProgressElement) bar.value = job.progress;
  };
  listen(`${root}/v1/events`, { message: later, job: showProgress }, later);
}
