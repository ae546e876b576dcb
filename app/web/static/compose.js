// Composing a version: one slider for each patch.
import { api, tell } from "./site.js";

const form = document.getElementById("compose");
if (form instanceof HTMLFormElement) {
  const sliders = [...form.querySelectorAll("input[type=range]")].map((each) => /** @type {HTMLInputElement} */ (each));
  const formula = /** @type {HTMLElement} */ (form.querySelector(".formula"));
  const chosen = () => sliders.filter((each) => Number(each.value) !== 0);

  const show = () => {
    for (const each of sliders) {
      const output = /** @type {HTMLOutputElement} */ (form.querySelector(`output[for="${each.id}"]`));
      output.value = Number(each.value).toFixed(2);
    }
    const words = chosen().map((each) => `${Number(each.value).toFixed(2)} × ${each.labels?.[0]?.firstChild?.textContent?.trim()}`);
    formula.textContent = words.length ? `The base + ${words.join(" + ")}` : "The base alone.";
  };
  form.addEventListener("input", show);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const button = /** @type {HTMLButtonElement} */ (form.querySelector("button"));
    button.disabled = true;
    tell(form);
    try {
      const terms = chosen().map((each) => ({ patch: each.dataset.patch, coefficient: Number(each.value) }));
      const made = await api("POST", form.getAttribute("data-make") ?? "", { json: { name: new FormData(form).get("name"), terms } });
      location.assign(`${form.getAttribute("data-next")}${made.id}`);
    } catch (error) {
      tell(form, error);
      button.disabled = false;
    }
  });
}
