// Verifies webhooks with the official JavaScript library of Standard Webhooks. Reads a JSON list of {secret, headers, body} from
// standard input; each must be accepted as it is, and refused with any one character changed. Prints how many were.
import { text } from "node:stream/consumers";
import { Webhook, WebhookVerificationError } from "standardwebhooks";

const SIGNED_HEADERS = ["webhook-id", "webhook-timestamp", "webhook-signature"];

const counts = { accepted: 0, refused: 0 };
for (const { secret, headers, body } of JSON.parse(await text(process.stdin))) {
  const webhook = secret.startsWith("whsec_") ? new Webhook(secret) : new Webhook(secret, { format: "raw" });
  const payload = webhook.verify(body, headers);
  if (payload.event_id !== headers["webhook-id"]) {
    throw new Error(`webhook-id is ${headers["webhook-id"]}, event_id is ${payload.event_id}`);
  }
  counts.accepted += 1;
  for (const changed of changes(body)) {
    refuse(webhook, changed, headers);
  }
  for (const name of SIGNED_HEADERS) {
    for (const changed of changes(headers[name])) {
      refuse(webhook, body, { ...headers, [name]: changed });
    }
  }
}
console.log(JSON.stringify(counts));

function refuse(webhook, body, headers) {
  try {
    webhook.verify(body, headers);
  } catch (error) {
    if (error instanceof WebhookVerificationError) {
      counts.refused += 1;
      return;
    }
    throw error;
  }
  throw new Error(`accepted although it was changed: ${JSON.stringify(headers)} ${body}`);
}

// The text with one bit of one character changed, for each of its characters.
function* changes(original) {
  for (let at = 0; at < original.length; at += 1) {
    const changed = String.fromCharCode(original.charCodeAt(at) ^ 1);
    yield original.slice(0, at) + changed + original.slice(at + 1);
  }
}
