// What a child that nobody has asked for yet does meanwhile: the whole way of a program once, with a host that answers
// from memory. The code of that way is compiled then, and the first program that comes does not wait for it.

import { randomUUID } from "node:crypto";
import { type Facts, type Os, toPid, toRunId } from "@ergos/kernel";
import {
  FrameReader,
  type HostMessage,
  type Transport,
  WIRE_VERSIONS,
  WireClient,
  encodeFrame,
  parseClientMessage,
} from "@ergos/protocol";

/** A module without a file: the loader is as slow the first time. */
const MODULE = "data:text/javascript,export default async (input, ctx) => { await ctx.log('done'); };";

const FACTS: Facts = {
  pid: toPid(2),
  runId: toRunId("practice-2"),
  name: "practice",
  user: "",
  program: { name: "practice", revision: "1", source: { name: "practice", module: MODULE } },
  durable: true,
  isResumed: false,
};

/** @param run what a child does for a host: runs the program that is its process's */
export async function practise(run: (os: Os) => Promise<unknown>): Promise<void> {
  const { client, welcome } = await WireClient.greet(
    memoryHost({ context: FACTS, revise: {} }),
    "practice",
    randomUUID,
  );
  await run(client.toOs(welcome.pid));
}

/** A host that answers each call with what is given for its name, or nothing. */
function memoryHost(answers: Readonly<Record<string, unknown>>): Transport {
  const reader = new FrameReader();
  let hear: (chunk: Uint8Array) => void = () => undefined;
  const send = (message: HostMessage): void => {
    for (const part of encodeFrame(message)) hear(part);
  };
  const answer = (frame: unknown): void => {
    const message = parseClientMessage(frame);
    if (message.t === "hello")
      send({ t: "welcome", version: WIRE_VERSIONS[0] ?? 1, pid: FACTS.pid, host: { version: "", pid: process.pid } });
    else if (message.t === "call") send({ t: "result", id: message.id, value: answers[message.name] ?? null });
  };
  return {
    write: (parts) => {
      for (const part of parts) for (const { message } of reader.push(part)) queueMicrotask(() => answer(message));
    },
    onData: (handler) => (hear = handler),
    onClose: () => undefined,
    close: () => undefined,
  };
}
