// The alpha explorer: accuracies and changed images at any alpha, from features that the patch has stored.
import { api, tell } from "./site.js";

const panel = /** @type {HTMLElement} */ (document.getElementById("explorer"));
const slider = /** @type {HTMLInputElement} */ (panel.querySelector("#alpha"));
const output = /** @type {HTMLOutputElement} */ (panel.querySelector("output"));
const task = /** @type {HTMLSelectElement} */ (panel.querySelector("#task"));
const chart = /** @type {SVGSVGElement} */ (panel.querySelector(".chart"));
const percent = (/** @type {number} */ share) => `${(100 * share).toFixed(1)} %`;

/** @type {AbortController | null} */
let running = null;

/** Moves the line in the chart to the slider's alpha. */
function point() {
  const { left, right, end } = chart.dataset;
  const x = Number(left) + (Number(right) - Number(left)) * (Number(slider.value) / Number(end));
  const cursor = /** @type {SVGLineElement} */ (chart.querySelector(".cursor"));
  cursor.setAttribute("x1", String(x));
  cursor.setAttribute("x2", String(x));
  output.value = Number(slider.value).toFixed(2);
}

/** @param {{tasks: Record<string, {accuracy: number, lost?: number, gained?: number}>, measured: boolean}} scores */
function showScores(scores) {
  for (const row of panel.querySelectorAll("tr[data-task]")) {
    const score = scores.tasks[/** @type {HTMLElement} */ (row).dataset.task ?? ""];
    const cells = row.querySelectorAll("td");
    if (!score) continue;
    [percent(score.accuracy), score.lost ?? "–", score.gained ?? "–"].forEach((text, place) => (cells[place].textContent = String(text)));
  }
  const note = /** @type {HTMLElement} */ (panel.querySelector(".note"));
  note.textContent = scores.measured ? "Evaluated at this alpha." : "Predicted from the stored features.";
}

/** @param {any} changes */
function showFaces(changes) {
  const text = /** @type {HTMLElement} */ (panel.querySelector(".changes"));
  text.textContent = `${changes.num_changed} of ${changes.num_images} answers change: ${changes.num_lost} become wrong, ${changes.num_won} become right.`;
  const faces = /** @type {HTMLElement} */ (panel.querySelector(".faces"));
  const before = new Map([...faces.children].map((item) => [/** @type {HTMLElement} */ (item).dataset.key, item]));
  faces.replaceChildren(
    ...changes.items.map((/** @type {any} */ image) => {
      const key = `${changes.task} ${image.index}`;
      const item = /** @type {HTMLElement} */ (before.get(key) ?? document.createElement("li"));
      if (!item.firstChild) {
        item.dataset.key = key;
        const figure = item.appendChild(document.createElement("figure"));
        const picture = figure.appendChild(document.createElement("img"));
        picture.src = `${panel.dataset.images}${changes.task}/images/validation/${image.index}?size=128`;
        picture.alt = image.name ?? image.label;
        picture.width = picture.height = 96;
        figure.appendChild(document.createElement("figcaption"));
      }
      item.className = image.kind;
      const words = { lost: "lost", won: "won", other: "still wrong" }[/** @type {"lost"} */ (image.kind)];
      /** @type {HTMLElement} */ (item.querySelector("figcaption")).textContent = `${words}: ${image.before} → ${image.after} (is ${image.label})`;
      return item;
    }),
  );
}

async function load() {
  running?.abort();
  running = new AbortController();
  const { signal } = running;
  const alpha = slider.value;
  try {
    const [curve, changes] = await Promise.all([
      api("GET", `${panel.dataset.curve}?alpha=${alpha}`, { signal }),
      api("GET", `${panel.dataset.changes}?to=${alpha}&task=${task.value}&limit=24`, { signal }),
    ]);
    showScores(curve.point);
    showFaces(changes);
    tell(panel);
  } catch (error) {
    if (!signal.aborted) tell(panel, error);
  }
}

slider.addEventListener("input", () => {
  point();
  void load();
});
task.addEventListener("change", () => void load());
panel.querySelector(".reselect")?.addEventListener("click", async (event) => {
  const button = /** @type {HTMLButtonElement} */ (event.currentTarget);
  button.disabled = true;
  try {
    const made = await api("POST", panel.dataset.reselect ?? "", { json: { alpha: Number(slider.value) } });
    location.assign(`${panel.dataset.versions}${made.version.id}`);
  } catch (error) {
    tell(panel, error);
    button.disabled = false;
  }
});
point();
void load();
