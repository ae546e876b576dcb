// node example/classify.mjs URL IMAGE LABEL...
import { readFile } from "node:fs/promises";
import { Paintbox } from "../dist/paintbox.js";

const [url, image, ...labels] = process.argv.slice(2);
const client = new Paintbox({ url });
const answer = await client.classify(new Blob([await readFile(image)]), { labels, topK: 1 });
console.log(answer.version, answer.results[0].predictions[0].label);
