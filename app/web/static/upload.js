// The upload of an archive, with its progress.
import { ApiProblem, root, tell } from "./site.js";

const form = /** @type {HTMLFormElement} */ (document.getElementById("upload"));
const bar = /** @type {HTMLProgressElement} */ (form.querySelector("progress"));
const button = /** @type {HTMLButtonElement} */ (form.querySelector("button"));

form.addEventListener("submit", (event) => {
  event.preventDefault();
  tell(form);
  const fields = new FormData(form);
  if (!fields.get("templates")) fields.delete("templates");
  const request = new XMLHttpRequest(); // fetch does not tell how much was sent
  request.open("POST", `${root}/v1/datasets`);
  request.setRequestHeader("X-CSRF-Token", document.querySelector('meta[name="csrf-token"]')?.getAttribute("content") ?? "");
  request.responseType = "json";
  request.upload.addEventListener("progress", (sent) => (bar.value = sent.loaded / sent.total));
  const fail = (/** @type {unknown} */ error) => {
    bar.hidden = true;
    button.disabled = false;
    tell(form, error);
  };
  request.addEventListener("load", () => {
    const answer = request.response;
    if (request.status < 300) location.assign(`${root}/ui/datasets/${answer.id}`);
    else fail(answer?.detail ? new ApiProblem(`${answer.detail} ${answer.next}`) : null);
  });
  request.addEventListener("error", () => fail(null));
  bar.hidden = false;
  button.disabled = true;
  request.send(fields);
});
