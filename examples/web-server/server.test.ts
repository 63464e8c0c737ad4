import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { startServer } from "./server.ts";

test("a request starts a run, whose result can be fetched, and failures are told", async () => {
  const dir = mkdtempSync(join(tmpdir(), "ergos-web-"));
  try {
    await using server = await startServer(dir);
    const post = async (text: string): Promise<string> => {
      const response = await fetch(`${server.url}/summaries`, { method: "POST", body: JSON.stringify({ text }) });
      expect(response.status).toBe(202);
      return ((await response.json()) as { runId: string }).runId;
    };
    const settled = async (runId: string): Promise<Record<string, unknown>> => {
      for (;;) {
        const run = (await (await fetch(`${server.url}/summaries/${runId}`)).json()) as Record<string, unknown>;
        if (run["state"] === "completed" || run["state"] === "failed") return run;
      }
    };

    const good = await settled(
      await post("ErgOS runs agents as durable processes. They survive a crash of their host."),
    );
    const bad = await settled(await post("  "));

    expect(good).toMatchObject({
      state: "completed",
      result: { summary: expect.stringContaining("durable processes") as unknown },
    });
    expect(bad).toMatchObject({ state: "failed", error: expect.stringContaining("the text is empty") as unknown });
    expect((await fetch(`${server.url}/summaries/summary-999`)).status).toBe(404);
    expect((await fetch(`${server.url}/other`)).status).toBe(404);
    expect((await fetch(`${server.url}/summaries/nothing`)).status).toBe(404);
    for (const body of ["no JSON", "null", "{}"])
      expect((await fetch(`${server.url}/summaries`, { method: "POST", body })).status).toBe(400);
    // A request that comes twice starts one run.
    const headers = { "idempotency-key": "42" };
    const twice = () =>
      fetch(`${server.url}/summaries`, { method: "POST", headers, body: JSON.stringify({ text: "Once." }) });
    const [one, two] = await Promise.all([twice(), twice()]);
    expect(await two.json()).toEqual(await one.json());
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
});
