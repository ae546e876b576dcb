// The inbox: labels by keyboard, decisions without leaving the page, and the way to a patch.
import { api, tell } from "./site.js";
import { collect } from "./collecting.js";

const inbox = document.getElementById("inbox");
/** @param {HTMLFormElement} form @param {string} what */
async function decide(form, what) {
  const item = /** @type {HTMLElement} */ (form.closest("li"));
  const url = `${inbox?.dataset.feedback}${item.dataset.id}`;
  const label = new FormData(form).get("label")?.toString().trim() || null;
  try {
    if (what === "delete") await api("DELETE", url);
    else await api("PATCH", url, { json: what === "accepted" ? { label, state: what } : { state: what } });
    const next = item.nextElementSibling ?? item.previousElementSibling;
    item.remove();
    next?.querySelector("input")?.focus();
  } catch (error) {
    tell(form, error);
  }
}
inbox?.addEventListener("submit", (event) => {
  event.preventDefault();
  void decide(/** @type {HTMLFormElement} */ (event.target), "accepted");
});
inbox?.addEventListener("click", (event) => {
  if (event.target instanceof HTMLButtonElement && event.target.type === "button" && event.target.form)
    void decide(event.target.form, event.target.value);
});
document.getElementById("collect")?.addEventListener("submit", (event) => {
  event.preventDefault();
  const form = /** @type {HTMLFormElement} */ (event.target);
  void collect(form, { name: new FormData(form).get("name") });
});
