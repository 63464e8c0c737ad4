import { connect } from "ergos";
import { expect, test } from "vitest";
import order from "./retry.ts";

test("attempts are repeated, a slow one is cut off, and the failure names its cause", async () => {
  await using os = await connect();

  const pid = await os.spawn(order);
  const exit = await os.wait(pid);

  expect(exit.code).toBe(1);
  expect(exit.error?.message).toMatch(/node reserve failed: 3 wanted, 0 in stock/);
  expect(await os.fs.readText(`/proc/${pid}/status`)).toMatch(/3 wanted, 0 in stock/);
});

test("with the cause repaired the order completes", async () => {
  await using os = await connect();

  expect(await os.run(order, { input: { stock: 5 } })).toEqual({ text: "3 × lease for 21", left: 2, gift: "none" });
});
