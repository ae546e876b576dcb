// The playground: one image on several versions, side by side; a click on the right answer is a correction.
import { ApiProblem, api, tell } from "./site.js";

const form = /** @type {HTMLFormElement} */ (document.getElementById("playground"));
const picker = /** @type {HTMLInputElement} */ (form.querySelector("#image"));
const preview = /** @type {HTMLImageElement} */ (form.querySelector(".preview img"));
const answers = /** @type {HTMLElement} */ (document.getElementById("answers"));

/** @type {File | null} */
let image = null;

/** @param {File | null | undefined} file */
function take(file) {
  if (!file?.type.startsWith("image/")) return;
  image = file;
  URL.revokeObjectURL(preview.src);
  preview.src = URL.createObjectURL(file);
  preview.alt = file.name;
  preview.hidden = false;
}

picker.addEventListener("change", () => take(picker.files?.[0]));
addEventListener("paste", (event) => take(event.clipboardData?.files[0]));
addEventListener("dragover", (event) => {
  event.preventDefault();
  form.classList.add("dropping");
});
addEventListener("dragleave", () => form.classList.remove("dropping"));
addEventListener("drop", (event) => {
  event.preventDefault();
  form.classList.remove("dropping");
  take(event.dataTransfer?.files[0]);
});

const chips = /** @type {HTMLElement} */ (document.getElementById("labels"));
const typed = /** @type {HTMLTextAreaElement} */ (document.getElementById("label"));
const told = /** @type {HTMLElement} */ (document.getElementById("told"));

const labels = () => [...chips.children].map((each) => each.getAttribute("data-label") ?? "");

/** @param {string} text one label on each line */
function addLabels(text) {
  for (const label of text.split("\n").map((each) => each.trim()).filter((each) => each && !labels().includes(each))) {
    const chip = chips.appendChild(document.createElement("li"));
    chip.className = "chip";
    chip.dataset.label = label;
    chip.append(`${label} `);
    const remove = chip.appendChild(document.createElement("button"));
    remove.type = "button";
    remove.textContent = "✕";
    remove.setAttribute("aria-label", `Remove ${label}`);
    remove.addEventListener("click", () => {
      chip.remove();
      told.textContent = `${label} is removed.`;
      typed.focus();
    });
  }
  typed.value = "";
}

addLabels("a cat\na dog");
typed.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && typed.value.trim()) {
    event.preventDefault();
    addLabels(typed.value);
  } else if (event.key === "Backspace" && !typed.value) chips.lastElementChild?.querySelector("button")?.click();
});
typed.addEventListener("paste", (event) => {
  const text = event.clipboardData?.getData("text") ?? "";
  if (!text.includes("\n")) return;
  event.preventDefault();
  addLabels(text);
});
typed.addEventListener("change", () => addLabels(typed.value));

const versions = /** @type {HTMLElement} */ (document.getElementById("versions"));
const more = /** @type {HTMLButtonElement} */ (document.getElementById("more"));

/** Numbers the choices of versions; the last one cannot be removed. */
function number() {
  const rows = [...versions.querySelectorAll("div")];
  rows.forEach((row, place) => {
    row.querySelector("select")?.setAttribute("aria-label", `Version ${place + 1}`);
    const remove = /** @type {HTMLButtonElement} */ (row.querySelector("button"));
    remove.setAttribute("aria-label", `Remove version ${place + 1}`);
    remove.hidden = rows.length === 1;
  });
  more.disabled = rows.length >= Number(form.dataset.most);
}

more.addEventListener("click", () => {
  const last = /** @type {HTMLElement} */ (versions.lastElementChild);
  const row = /** @type {HTMLElement} */ (versions.appendChild(last.cloneNode(true)));
  number();
  row.querySelector("select")?.focus();
});
versions.addEventListener("click", (event) => {
  if (!(event.target instanceof HTMLButtonElement)) return;
  event.target.parentElement?.remove();
  number();
  more.focus();
});
number();

/** @param {string} version @param {string[]} labels */
async function ask(version, labels) {
  const fields = new FormData();
  fields.append("images", /** @type {File} */ (image));
  fields.append("candidate_labels", JSON.stringify(labels));
  fields.append("version", version);
  return api("POST", form.dataset.classify ?? "", { body: fields });
}

/** @param {any} answer @param {string} asked */
function show(answer, asked) {
  const card = answers.appendChild(document.createElement("section"));
  card.className = "card";
  const best = answer.results[0].predictions;
  card.appendChild(document.createElement("h2")).textContent = `Version ${answer.version}${asked && asked !== String(answer.version) ? ` (${asked})` : ""}`;
  const list = card.appendChild(document.createElement("ol"));
  for (const each of best) {
    const item = list.appendChild(document.createElement("li"));
    item.append(`${each.label} ${(100 * each.score).toFixed(1)} % `);
    const right = item.appendChild(document.createElement("button"));
    right.type = "button";
    right.textContent = "This is right";
    right.setAttribute("aria-label", `${each.label} is right`);
    right.addEventListener("click", () => void correct(card, answer.version, best[0].label, each.label));
  }
  card.appendChild(document.createElement("p")).className = "note";
  const problem = card.appendChild(document.createElement("p"));
  problem.className = "problem";
  problem.hidden = true;
}

/** @param {HTMLElement} card @param {number} version @param {string} predicted @param {string} label */
async function correct(card, version, predicted, label) {
  const fields = new FormData();
  fields.append("images", /** @type {File} */ (image));
  for (const [name, value] of Object.entries({ version, predicted, label })) fields.append(name, String(value));
  try {
    await api("POST", form.dataset.feedback ?? "", { body: fields });
    /** @type {HTMLElement} */ (card.querySelector(".note")).textContent = `Noted: it is ${label}.`;
    tell(card);
  } catch (error) {
    tell(card, error);
  }
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  tell(form);
  addLabels(typed.value);
  const asked = [...new Set([...versions.querySelectorAll("select")].map((each) => each.value))];
  try {
    if (!image) throw new ApiProblem("Choose an image first.");
    const found = await Promise.all(asked.map((version) => ask(version, labels())));
    answers.replaceChildren();
    found.forEach((answer, place) => show(answer, asked[place]));
  } catch (error) {
    tell(form, error);
  }
});
