import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type ErgOs, type Pid, connect } from "ergos";
import { afterEach, beforeEach, expect, test } from "vitest";
import saga from "./saga.ts";

let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), "ergos-saga-"));
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

const booked = async (os: ErgOs): Promise<readonly string[]> =>
  (await os.fs.readdir("/srv/trips/rome")).map(({ name }) => name).toSorted();

/** Runs until it waits for somebody, and gives the question. */
async function untilAsked(os: ErgOs, pid: Pid): Promise<number> {
  await expect.poll(async () => (await os.ps({ pids: [pid] }))[0]?.state, { timeout: 5000 }).toBe("waiting");
  const [question] = await os.call("asks", {});
  return question?.id ?? 0;
}

test("all bookings stand when the trip is paid for", async () => {
  await using os = await connect({ dir });
  const pid = await os.spawn(saga);
  await os.call("answer", { id: await untilAsked(os, pid), verdict: "reply", value: "pay" });

  expect((await os.wait(pid)).result).toEqual({ booked: ["flight", "hotel", "car"] });
  expect(await booked(os)).toEqual(["car", "flight", "hotel"]);
});

test("none stands when one fails, when nobody pays, and when the run is cancelled", async () => {
  await using os = await connect({ dir, programs: [saga] });
  await expect(os.run(saga, { input: { soldOut: "car" } })).rejects.toThrow("car is sold out");
  expect(await booked(os)).toEqual([]);

  const unpaid = await os.spawn("saga");
  await os.call("answer", { id: await untilAsked(os, unpaid), verdict: "reply", value: "cancel" });
  expect((await os.wait(unpaid)).error?.message).toContain("nobody wants to pay");
  expect(await booked(os)).toEqual([]);
  // Tried again, it books and asks again.
  await os.resume(unpaid, { again: true });
  await os.call("answer", { id: await untilAsked(os, unpaid), verdict: "reply", value: "pay" });
  expect((await os.wait(unpaid)).result).toMatchObject({ booked: ["flight", "hotel", "car"] });
  expect(await booked(os)).toEqual(["car", "flight", "hotel"]);

  const cancelled = await os.spawn(saga);
  await untilAsked(os, cancelled);
  expect(await booked(os)).toEqual(["car", "flight", "hotel"]);
  await os.kill(cancelled);
  expect(await os.wait(cancelled)).toMatchObject({ signal: "TERM" });
  expect(await booked(os)).toEqual([]);
});

test("a run that is ended while no host runs it takes back what it has booked", async () => {
  let pid: Pid;
  {
    await using os = await connect({ dir, programs: [saga] });
    pid = await os.spawn("saga");
    await untilAsked(os, pid);
  }
  await using os = await connect({ dir, programs: [saga], resume: false });
  expect(await booked(os)).toEqual(["car", "flight", "hotel"]);
  await os.kill(pid);
  expect(await booked(os)).toEqual([]);
});

test("a run that another host goes on with takes back what the one before has booked", async () => {
  let pid: Pid;
  {
    await using os = await connect({ dir, programs: [saga] });
    pid = await os.spawn("saga");
    await untilAsked(os, pid);
  }
  await using os = await connect({ dir, programs: [saga] });
  await untilAsked(os, pid);
  await os.kill(pid);

  expect(await os.wait(pid)).toMatchObject({ signal: "TERM" });
  expect(await booked(os)).toEqual([]);
});
