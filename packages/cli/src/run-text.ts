// What the models of a run say, as they say it.

import { setTimeout as delay } from "node:timers/promises";
import { type EventName, type Os, type Pid } from "@ergos/kernel";
import type { Output } from "./terminal.ts";

/** A piece of an answer. Several answers may be on their way at once: each has a place. */
export interface TextPiece {
  /** The call in its program, as `summary` or `each/2/summary`. */
  readonly place: string;
  readonly model: string;
  /** From 0 in each answer; 0 again where a call is made again. */
  readonly index: number;
  readonly text: string;
  /** Nothing more of this answer comes. */
  readonly isLast: boolean;
}

const ENDS: readonly EventName[] = ["process.completed", "process.failed", "process.cancelled"];
/** What was said is told before the end is; over a socket it may still be on its way. */
const LATE_MS = 200;

/**
 * Starts a process, and tells what its models say until it ends. What is said faster than it is heard is left out.
 * @param hear what it throws is thrown when the process has ended, and nothing more is told
 * @throws {EACCES} the caller may not hear of events; the process has ended all the same
 */
export async function withText<T>(
  os: Pick<Os, "events">,
  hear: (piece: TextPiece) => void,
  spawn: () => Promise<Pid>,
  wait: (pid: Pid) => Promise<T>,
): Promise<T> {
  const stop = new AbortController();
  const started = Promise.withResolvers<Pid | undefined>();
  // Before it begins: it may say something at once.
  const events = os.events({ names: ["model.text", ...ENDS], overflow: "drop", signal: stop.signal });
  const heard = (async () => {
    for await (const { name, pid, data } of events) {
      if (pid !== (await started.promise)) continue;
      if (name !== "model.text") return;
      // As the table of events has it.
      hear(data as unknown as TextPiece);
    }
  })();
  // That it was ended by us is no failure.
  const failures: unknown[] = [];
  const hearing = heard.catch((error: unknown) => {
    if (!stop.signal.aborted) failures.push(error);
  });
  try {
    const pid = await spawn();
    started.resolve(pid);
    const end = await wait(pid);
    await Promise.race([hearing, delay(LATE_MS, undefined, { signal: stop.signal })]);
    for (const error of failures) throw error;
    return end;
  } finally {
    stop.abort();
    // One that could not be started says nothing.
    started.resolve(undefined);
    await hearing;
  }
}

export interface TextPrinter {
  readonly hear: (piece: TextPiece) => void;
  /** Nothing more comes: writes what still waits for an end that was left out. */
  readonly end: () => void;
}

/** Writes answers one after the other, as they come: of several at once the others wait until one is over. */
export function textPrinter(style: Output["style"], write: (text: string) => void): TextPrinter {
  /** What was said and not written, the longest waiting first. */
  const answers = new Map<string, { readonly title: string; text: string; isOver: boolean }>();
  let speaker: string | undefined;
  const writeOn = (): void => {
    for (;;) {
      const place = speaker ?? answers.keys().next().value;
      const answer = place === undefined ? undefined : answers.get(place);
      if (place === undefined || answer === undefined) return;
      if (speaker === undefined) write(answer.title);
      speaker = place;
      write(answer.text);
      answer.text = "";
      if (!answer.isOver) return;
      write("\n");
      answers.delete(place);
      speaker = undefined;
    }
  };
  const hear = ({ place, model, index, text, isLast }: TextPiece): void => {
    const title = `${style("dim", `${place} (${model}):`)} `;
    const answer = answers.get(place) ?? { title, text: "", isOver: false };
    answers.set(place, answer);
    // A call that is made again begins anew.
    answer.text += index === 0 && speaker === place ? `\n${title}${text}` : text;
    answer.isOver = isLast;
    writeOn();
  };
  const end = (): void => {
    for (const answer of answers.values()) answer.isOver = true;
    writeOn();
  };
  return { hear, end };
}
