// The playground: one image on one or two versions, side by side; a click on the right answer is a correction.
import { api, tell } from "./site.js";

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

/** @param {string} version @param {string[]} labels */
async function ask(version, labels) {
  const fields = new FormData();
  fields.append("images", /** @type {File} */ (image));
  fields.append("candidate_labels", JSON.stringify(labels));
  if (version) fields.append("version", version);
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
  const labels = new FormData(form).get("labels")?.toString().split("\n").map((each) => each.trim()).filter(Boolean) ?? [];
  const versions = [...form.querySelectorAll("select")].map((each) => each.value);
  try {
    if (!image) throw new TypeError("no image");
    const asked = versions.filter((each, place) => place === 0 || each);
    const found = await Promise.all(asked.map((version) => ask(version, labels)));
    answers.replaceChildren();
    found.forEach((answer, place) => show(answer, asked[place]));
  } catch (error) {
    tell(form, error);
    if (!image) /** @type {HTMLElement} */ (form.querySelector(".problem")).textContent = "Choose an image first.";
  }
});
