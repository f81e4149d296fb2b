// Everything an application does with openai-node, printed as one JSON object.
// The arguments come as JSON on stdin: base_url, key, in_header, model, texts, many, tokens.
import { createRequire } from 'node:module';
import { readFileSync } from 'node:fs';

const require = createRequire(process.env.OPENAI_NODE_ROOT + '/');
const OpenAI = require('openai');
const given = JSON.parse(readFileSync(0, 'utf8'));
const model = given.model;

// The two ways to hand the key over: OpenAI's own, and the header that a single-user server takes.
const clientWith = (key) =>
  given.in_header
    ? new OpenAI({ apiKey: 'unused', baseURL: given.base_url, defaultHeaders: { 'X-API-KEY': key } })
    : new OpenAI({ apiKey: key, baseURL: given.base_url });
const client = clientWith(given.key);
const create = (options) => client.embeddings.create({ model, ...options });

function rows(answer) {
  answer.data.forEach((item, index) => {
    if (item.index !== index) throw new Error(`index ${item.index} at ${index}`);
  });
  return answer.data.map((item) => item.embedding);
}

async function errorOf(call) {
  try {
    await call();
  } catch (error) {
    return {
      class: error.constructor.name,
      status: error.status,
      code: error.code,
      message: error.message,
      body: error.error,
      request_id: error.requestID,
    };
  }
  throw new Error('The call succeeded.');
}

const texts = given.texts;
const single = await create({ input: texts[0] });
const models = [];
for await (const listed of client.models.list()) models.push(listed.id);

const report = {
  version: JSON.parse(readFileSync(process.env.OPENAI_NODE_ROOT + '/node_modules/openai/package.json', 'utf8')).version,
  answered_model: single.model,
  usage: [single.usage.prompt_tokens, single.usage.total_tokens],
  single: rows(single)[0],
  list: rows(await create({ input: texts })),
  many: rows(await create({ input: given.many })),
  float: rows(await create({ input: texts, encoding_format: 'float' })),
  base64: rows(await create({ input: texts, encoding_format: 'base64' })),
  dimensions: rows(await create({ input: texts, dimensions: 64 })),
  tokens: rows(await create({ input: given.tokens[0] })),
  token_arrays: rows(await create({ input: given.tokens })),
  models,
  retrieved: (await client.models.retrieve(model)).id,
  raw_provider: (await create({ input: texts[0] }).asResponse()).headers.get('x-embeddings-provider'),
  errors: {
    'wrong key': await errorOf(() => clientWith('wrong-key').embeddings.create({ model, input: 'x' })),
    'unknown model': await errorOf(() => client.embeddings.create({ model: 'onnx:no/such-model', input: 'x' })),
    'unknown model retrieved': await errorOf(() => client.models.retrieve('no/such-model')),
    'blank input': await errorOf(() => create({ input: ['fine', ' '] })),
    'wrong dimensions': await errorOf(() => create({ input: 'x', dimensions: 0 })),
    'too long': await errorOf(() => create({ input: ['fine', 'word '.repeat(400)] })),
  },
};
process.stdout.write(JSON.stringify(report));
