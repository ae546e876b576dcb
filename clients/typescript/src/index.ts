/** A typed client of Paintbox. `schema.d.ts` is generated from the service's OpenAPI document by `npm run generate`. */

import createClient, { type Client } from "openapi-fetch";
import type { components, paths } from "./schema.js";

export type Schemas = components["schemas"];
export type Classification = Schemas["Classification"];
export type Embeddings = Schemas["Embeddings"];
export type Job = Schemas["JobDetail"];
export type Problem = Schemas["Problem"];

const MAX_IMAGES = 64;
const MAX_BYTES = 32 * 2 ** 20;
const MAX_PARALLEL = 4;
const REPEATABLE = new Set([408, 425, 429, 502, 503, 504]);
const PAUSES_MS = [100, 300, 900, 2000, 4000];
const MAX_RETRY_AFTER_MS = 60_000;

/** The service rejected the request; `code` is stable, `next` says how to resolve it. */
export class PaintboxError extends Error {
  override readonly name = "PaintboxError";
  constructor(
    readonly status: number,
    readonly code: string,
    readonly detail: string,
    readonly next: string,
    readonly errors: Problem["errors"] = null,
  ) {
    super(`${detail} ${next}`.trim());
  }
}

export interface Options {
  /** Address of the service, such as `http://127.0.0.1:8321`. */
  url: string;
  apiKey?: string;
  /** How often a request is sent again when the service is busy or unreachable. Default: 5. */
  retries?: number;
  /** Default: the platform's `fetch`. */
  fetch?: typeof globalThis.fetch;
}

export interface ClassifyOptions {
  /** Candidate labels; or `labelSet`, or `dataset`, whose classes are the labels. */
  labels?: readonly string[];
  labelSet?: string;
  dataset?: string;
  /** Prompts with `{}`. Default: those of the label set. */
  templates?: readonly string[];
  /** Maximum number of predictions per image. Default: all. */
  topK?: number;
  /** Minimum score of a prediction. */
  threshold?: number;
  /** Score each label independently; scores then do not sum to 1. */
  multiLabel?: boolean;
  /** Whether the service may keep the images to be labelled. Default: true. */
  keep?: boolean;
  /** Version id or alias. Default: `active`. */
  version?: number | string;
  /** Identifies one of many users: requests with the same key are all served by the canary, or none. */
  key?: string;
  signal?: AbortSignal;
}

export type EmbedOptions = Pick<ClassifyOptions, "version" | "signal">;

/** A client of one service. `http` calls any other operation, with the types of the OpenAPI document. */
export class Paintbox {
  readonly http: Client<paths>;
  readonly #url: string;
  readonly #headers: Record<string, string>;
  readonly #retries: number;
  readonly #fetch: typeof globalThis.fetch;

  constructor({ url, apiKey, retries = PAUSES_MS.length, fetch = globalThis.fetch.bind(globalThis) }: Options) {
    this.#url = url.replace(/\/+$/, "");
    this.#headers = apiKey === undefined ? {} : { Authorization: `Bearer ${apiKey}` };
    this.#retries = retries;
    this.#fetch = fetch;
    this.http = createClient<paths>({ baseUrl: this.#url, headers: this.#headers, fetch: (request) => fetch(request) });
  }

  /**
   * The labels of each image, best first, and the version that produced them. Any number of images: many are sent in
   * several requests, all to the version that answered the first.
   */
  async classify(images: Blob | readonly Blob[], options: ClassifyOptions): Promise<Classification> {
    const fields = {
      candidate_labels: options.labels && JSON.stringify(options.labels),
      label_set: options.labelSet,
      dataset: options.dataset,
      templates: options.templates && JSON.stringify(options.templates),
      top_k: options.topK,
      threshold: options.threshold,
      multi_label: options.multiLabel,
      keep: options.keep,
      version: options.version,
    };
    const headers = options.key === undefined ? {} : { "X-Request-Key": options.key };
    const answers = await this.#sendAll<Classification>("/v1/classify", images, fields, headers, options.signal);
    return { ...answers[0]!, results: renumbered(answers.map((each) => each.results)), timing_ms: summed(answers) };
  }

  /** The embedding of each image, of unit length, and the version that produced it. */
  async embed(images: Blob | readonly Blob[], options: EmbedOptions = {}): Promise<Embeddings> {
    const fields = { version: options.version };
    const answers = await this.#sendAll<Embeddings>("/v1/embed", images, fields, {}, options.signal);
    return { ...answers[0]!, embeddings: renumbered(answers.map((each) => each.embeddings)), timing_ms: summed(answers) };
  }

  /** The job once it has succeeded; throws a `PaintboxError` if it failed or was cancelled. */
  async waitForJob(
    id: string,
    options: { onUpdate?: (job: Job) => void; pollMs?: number; signal?: AbortSignal } = {},
  ): Promise<Job> {
    for (;;) {
      const job = await this.#send<Job>(`/v1/jobs/${encodeURIComponent(id)}`, { signal: options.signal ?? null });
      options.onUpdate?.(job);
      if (job.status === "succeeded") return job;
      if (job.status === "failed" || job.status === "cancelled") {
        const detail = job.error?.detail ?? `The job was ${job.status}.`;
        throw new PaintboxError(0, job.error?.code ?? job.status, detail, "Retry the job, or correct its request.");
      }
      await pause(options.pollMs ?? 500, options.signal);
    }
  }

  async #sendAll<Answer extends { version: number }>(
    path: string,
    images: Blob | readonly Blob[],
    fields: Record<string, unknown>,
    headers: Record<string, string>,
    signal?: AbortSignal,
  ): Promise<Answer[]> {
    const [first, ...rest] = batches(images instanceof Blob ? [images] : images);
    if (first === undefined) throw new RangeError("No image was given.");
    const send = (batch: readonly Blob[], version?: number) =>
      this.#send<Answer>(path, {
        method: "POST",
        body: form(batch, version === undefined ? fields : { ...fields, version }),
        headers,
        signal: signal ?? null,
      });
    const answers = [await send(first)];
    const { version } = answers[0]!; // of all batches, even if another version is activated meanwhile
    for (let at = 0; at < rest.length; at += MAX_PARALLEL) {
      answers.push(...(await Promise.all(rest.slice(at, at + MAX_PARALLEL).map((batch) => send(batch, version)))));
    }
    return answers;
  }

  /** Sends a request that may be repeated, and again while the service is busy or unreachable. */
  async #send<Answer>(path: string, request: RequestInit): Promise<Answer> {
    for (let tries = 0; ; tries++) {
      const mayRepeat = tries < this.#retries && !request.signal?.aborted;
      let response: Response;
      try {
        response = await this.#fetch(this.#url + path, { ...request, headers: { ...this.#headers, ...request.headers } });
      } catch (error) {
        if (!mayRepeat) throw error;
        await pause(backOff(tries), request.signal ?? undefined);
        continue;
      }
      if (response.ok) return (await response.json()) as Answer;
      if (!mayRepeat || !REPEATABLE.has(response.status)) throw await refusal(response);
      const asked = 1000 * (Number(response.headers.get("Retry-After")) || 0);
      await response.body?.cancel();
      await pause(Math.max(backOff(tries), Math.min(asked, MAX_RETRY_AFTER_MS)), request.signal ?? undefined);
    }
  }
}

function form(images: readonly Blob[], fields: Record<string, unknown>): FormData {
  const body = new FormData();
  for (const [name, value] of Object.entries(fields)) if (value !== undefined) body.append(name, String(value));
  images.forEach((image, index) => body.append("images", image, `image-${index}`));
  return body;
}

function batches(images: readonly Blob[]): Blob[][] {
  const found: Blob[][] = [];
  let bytes = 0;
  for (const image of images) {
    const last = found.at(-1);
    if (last === undefined || last.length === MAX_IMAGES || bytes + image.size > MAX_BYTES) {
      found.push([image]);
      bytes = image.size;
    } else {
      last.push(image);
      bytes += image.size;
    }
  }
  return found;
}

function renumbered<Item extends { index: number }>(parts: readonly Item[][]): Item[] {
  return parts.flat().map((item, index) => ({ ...item, index }));
}

function summed(answers: readonly { timing_ms: Record<string, number> }[]): Record<string, number> {
  const sums: Record<string, number> = {};
  for (const { timing_ms } of answers) {
    for (const [name, value] of Object.entries(timing_ms)) sums[name] = (sums[name] ?? 0) + value;
  }
  return sums;
}

async function refusal(response: Response): Promise<PaintboxError> {
  const problem = (await response.json().catch(() => null)) as Partial<Problem> | null;
  if (typeof problem?.code !== "string") {
    const detail = `${response.url} returned ${response.status}, which is not a response of Paintbox.`;
    return new PaintboxError(response.status, "unexpected_answer", detail, "Check the URL and any proxy.");
  }
  return new PaintboxError(response.status, problem.code, problem.detail ?? "", problem.next ?? "", problem.errors ?? null);
}

function backOff(tries: number): number {
  return PAUSES_MS[Math.min(tries, PAUSES_MS.length - 1)]! * (0.8 + 0.2 * Math.random());
}

function pause(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    signal?.throwIfAborted();
    const timer = setTimeout(resolve, ms);
    signal?.addEventListener("abort", () => (clearTimeout(timer), reject(signal.reason as Error)), { once: true });
  });
}
