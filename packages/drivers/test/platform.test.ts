// Timers that are longer than those of Node.

import { createNodePlatform } from "@ergos/drivers/platform-node";
import { afterEach, beforeEach, expect, test, vi } from "vitest";

const DAY = 86_400_000;

beforeEach(() => void vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] }));
afterEach(() => void vi.useRealTimers());

test("a timer of many weeks runs when they are over, and not before", () => {
  const { setTimer } = createNodePlatform();
  const over: number[] = [];
  for (const days of [1, 24, 25, 60, 400]) setTimer(days * DAY, () => over.push(days));
  setTimer(Number.POSITIVE_INFINITY, () => over.push(Infinity), { idle: true });
  const seen = [1, 23, 1, 34, 1, 339, 1].map((days) => {
    vi.advanceTimersByTime(days * DAY);
    return over.join();
  });
  expect(seen).toEqual(["1", "1,24", "1,24,25", "1,24,25", "1,24,25,60", "1,24,25,60", "1,24,25,60,400"]);
});

test("one that is cancelled after some weeks does not run", () => {
  let runs = 0;
  const timer = createNodePlatform().setTimer(60 * DAY, () => runs++);
  vi.advanceTimersByTime(50 * DAY);
  timer.cancel();
  vi.advanceTimersByTime(50 * DAY);
  expect([runs, vi.getTimerCount()]).toEqual([0, 0]);
});

test("no time, or none that is a number, is over in the next turn", () => {
  const { setTimer } = createNodePlatform();
  let runs = 0;
  for (const delay of [0, -5, Number.NaN]) setTimer(delay, () => runs++);
  expect(runs).toBe(0);
  vi.advanceTimersByTime(1);
  expect(runs).toBe(3);
});
