// Topics: names of what happens, for those who did not send it. An event of the kernel is its own topic, what a
// process publishes has the one that it gives.

import { KernelError } from "../base/errno.ts";
import { compileGlob } from "../base/glob.ts";
import type { KernelEvent } from "../abi/event.ts";

const NAME = /^[a-z0-9_-]+(\.[a-z0-9_-]+)*$/i;
const PATTERN = /^([a-z0-9_-]+|\*|\*\*)(\.([a-z0-9_-]+|\*|\*\*))*$/i;
export const TOPIC_LENGTH_MAX = 255;

/** @throws {EINVAL} it is no name of a topic, or one that only the kernel publishes */
export function assertTopic(topic: string, isKernels: (topic: string) => boolean): void {
  if (topic.length > TOPIC_LENGTH_MAX || !NAME.test(topic))
    throw new KernelError(
      "EINVAL",
      `${JSON.stringify(topic)} is no topic; write names with dots between, as orders.created`,
    );
  if (isKernels(topic)) throw new KernelError("EINVAL", `${topic} is told by the kernel alone; choose another name`);
}

/** The topic of an event. */
export const topicOf = ({ name, data }: Pick<KernelEvent, "name" | "data">): string =>
  name === "topic.published" ? String(data["topic"]) : name;

/** What an event holds: of a publication what was published. */
export const bodyOf = ({ name, data }: Pick<KernelEvent, "name" | "data">): unknown =>
  name === "topic.published" ? data["body"] : data;

/**
 * Matches topics: `*` is one name, `**` at the end any number of them.
 * @throws {EINVAL} it is no pattern
 */
export function compileTopics(patterns: readonly string[]): (topic: string) => boolean {
  const matchers = patterns.map((pattern) => {
    if (pattern.length > TOPIC_LENGTH_MAX || !PATTERN.test(pattern))
      throw new KernelError(
        "EINVAL",
        `${JSON.stringify(pattern)} is no pattern of topics; write names with dots between, * for one, ** for any number`,
      );
    return compileGlob(`/${pattern.replaceAll(".", "/")}`);
  });
  return (topic) => {
    const path = `/${topic.replaceAll(".", "/")}`;
    return matchers.some((matches) => matches(path));
  };
}

/** Whether the fields of an event that a filter names (`a.b` goes into objects) have the values that it wants. */
export function holds(where: Readonly<Record<string, unknown>>, body: unknown): boolean {
  return Object.entries(where).every(([path, wanted]) => {
    let value: unknown = body;
    for (const name of path.split("."))
      value =
        typeof value === "object" && value !== null && Object.hasOwn(value, name)
          ? (value as Record<string, unknown>)[name]
          : undefined;
    return value === wanted || (typeof wanted === "object" && wanted !== null && isSameJson(value, wanted));
  });
}

/** Lists are the same in the same order, objects in any. */
function isSameJson(one: unknown, other: unknown): boolean {
  if (typeof one !== "object" || one === null || typeof other !== "object" || other === null) return one === other;
  if (Array.isArray(one) !== Array.isArray(other)) return false;
  const names = Object.keys(one);
  return (
    names.length === Object.keys(other).length &&
    names.every(
      (name) =>
        Object.hasOwn(other, name) &&
        isSameJson((one as Record<string, unknown>)[name], (other as Record<string, unknown>)[name]),
    )
  );
}
