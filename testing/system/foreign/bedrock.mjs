// The AWS SDK for JavaScript, asked by the tests: a question a line on standard input, its answer a line on standard
// output. A question is {settings: {endpoint, accessKeyId, secretAccessKey}, operation, arguments}; the answer has
// `answer` or `error`, and the `events` of a stream either way.
import { createRequire } from "node:module";
import { createInterface } from "node:readline";

const require = createRequire(`${process.env.SWITCHTOWER_NODE}/`);
const bedrock = require("@aws-sdk/client-bedrock-runtime");

const clients = new Map();

function runtime({ endpoint, accessKeyId, secretAccessKey }) {
  const key = `${endpoint} ${accessKeyId} ${secretAccessKey}`;
  if (!clients.has(key)) {
    const credentials = { accessKeyId, secretAccessKey };
    clients.set(
      key,
      new bedrock.BedrockRuntimeClient({ region: "us-east-1", endpoint, credentials, maxAttempts: 1 }),
    );
  }
  return clients.get(key);
}

async function answer({ settings, operation, arguments: input }) {
  const events = [];
  try {
    const { stream, ...result } = await runtime(settings).send(new bedrock[`${operation}Command`](input));
    for await (const event of stream ?? []) events.push(event);
    return { answer: result, events };
  } catch (error) {
    const modelled = bedrock[error.name];
    return {
      error: {
        name: error.name,
        message: error.message,
        status: error.$metadata?.httpStatusCode,
        modelled: modelled !== undefined && error instanceof modelled,
      },
      events,
    };
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  console.log(JSON.stringify(await answer(JSON.parse(line))));
}
process.exit(0);
