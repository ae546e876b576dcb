// A patch as it learns: the loss by step, and each alpha that is evaluated.
import { listen } from "./site.js";

const panel = document.getElementById("learning");
if (panel) {
  const bar = /** @type {HTMLProgressElement} */ (panel.querySelector("progress"));
  const eta = /** @type {HTMLElement} */ (panel.querySelector(".eta"));
  const latest = /** @type {HTMLElement} */ (panel.querySelector(".latest"));
  const [lossLine, anchorLine] = panel.querySelectorAll("polyline");
  const alphas = /** @type {HTMLElement} */ (panel.querySelector(".alphas"));
  /** @type {{step: number, loss: number, anchor_loss?: number}[]} */
  const steps = [];

  /** @param {SVGPolylineElement} line @param {(number | undefined)[]} values */
  const draw = (line, values) => {
    const known = values.filter((value) => value !== undefined);
    const top = Math.max(...known, 1e-9);
    const last = steps[steps.length - 1].step;
    const points = values.map((value, place) => (value === undefined ? "" : `${(8 + (624 * steps[place].step) / last).toFixed(1)},${(190 - (180 * value) / top).toFixed(1)}`));
    line.setAttribute("points", points.filter(Boolean).join(" "));
  };

  /** Adds a dot for each task's accuracy at an alpha. @param {number} alpha @param {number[]} shares */
  const drop = (alpha, shares) => {
    const chart = /** @type {SVGSVGElement} */ (panel.querySelector(".dots svg"));
    const { left, right, top, bottom, end } = Object.fromEntries(Object.entries(chart.dataset).map(([name, value]) => [name, Number(value)]));
    shares.forEach((share, place) => {
      const dot = document.createElementNS("http://www.w3.org/2000/svg", "circle");
      dot.setAttribute("cx", String(left + ((right - left) * Math.min(alpha, end)) / end));
      dot.setAttribute("cy", String(bottom - (bottom - top) * share));
      dot.setAttribute("r", "5");
      dot.setAttribute("class", `dot line-${place % 8}`);
      chart.appendChild(dot);
    });
  };

  /** @param {MessageEvent} event */
  const onMessage = (event) => {
    const { message, data } = JSON.parse(event.data);
    if (message === "fine-tuning" && data?.loss !== undefined) {
      steps.push(data);
      draw(lossLine, steps.map((each) => each.loss));
      draw(anchorLine, steps.map((each) => each.anchor_loss));
      const anchor = data.anchor_loss === undefined ? "" : `, anchor loss ${data.anchor_loss.toPrecision(3)}`;
      latest.textContent = `Step ${data.step}: loss ${data.loss.toPrecision(3)}${anchor}, ${Math.round(data.images_per_second ?? 0)} images/s.`;
    } else if (message === "alpha evaluated") {
      const row = document.createElement("tr");
      const shares = Object.values(data.accuracies ?? {}).map((share) => `${(100 * Number(share)).toFixed(1)} %`);
      for (const text of [data.alpha.toFixed(2), shares.join(", ")]) row.appendChild(document.createElement("td")).textContent = text;
      alphas.appendChild(row);
      drop(data.alpha, Object.values(data.accuracies ?? {}).map(Number));
    }
  };
  /** @param {MessageEvent} event */
  const onJob = (event) => {
    const job = JSON.parse(event.data);
    bar.value = job.progress;
    eta.textContent = job.eta_seconds === null ? (job.stage ?? "waiting for a worker") : `${job.stage}, ${Math.ceil(job.eta_seconds)} s left`;
    if (["succeeded", "failed", "cancelled"].includes(job.status)) {
      end();
      location.reload();
    }
  };
  const startOver = () => {
    steps.length = 0;
    alphas.replaceChildren();
    panel.querySelectorAll(".dots circle").forEach((dot) => dot.remove());
  };
  const end = listen(panel.dataset.stream ?? "", { message: onMessage, job: onJob }, startOver);
}
