// A JavaScript application without an SDK: a small client class.
// The arguments come as JSON on stdin: base_url, key.
import { readFileSync } from 'node:fs';

class EmbeddingsClient {
  constructor(baseUrl, key) {
    this.baseUrl = baseUrl;
    this.key = key;
  }

  async embed(input, { model = 'text-embedding-3-small', provider } = {}) {
    const headers = { 'X-API-KEY': this.key, 'Content-Type': 'application/json' };
    if (provider) headers['x-provider'] = provider;
    const response = await fetch(`${this.baseUrl}/embeddings`, {
      method: 'POST',
      headers,
      body: JSON.stringify({ input, model }),
    });
    const body = await response.json();
    if (!response.ok) throw new Error(body.error.message);
    return body.data.map((item) => item.embedding);
  }

  async *inBatches(texts, size) {
    for (let start = 0; start < texts.length; start += size) {
      yield await this.embed(texts.slice(start, start + size));
    }
  }
}

const given = JSON.parse(readFileSync(0, 'utf8'));
const client = new EmbeddingsClient(given.base_url, given.key);
const texts = Array.from({ length: 25 }, (_, number) => `Text ${number}`);
const batches = [];
for await (const batch of client.inBatches(texts, 10)) batches.push(batch);

const message = async (call) => {
  try {
    await call();
    return null;
  } catch (error) {
    return error.message;
  }
};
process.stdout.write(
  JSON.stringify({
    single: await client.embed('Hello world'),
    by_provider: await client.embed('Hello world', {
      model: 'sentence-transformers/all-MiniLM-L6-v2',
      provider: 'huggingface',
    }),
    batch_sizes: batches.map((batch) => batch.length),
    batches: batches.flat(),
    whole: await client.embed(texts),
    error: await message(() => client.embed('')),
  }),
);
