// `ergos service` as a user types it: a service of a module, over hosts that stay and hosts that do not.

import { type ChildProcess, spawn } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { afterEach, beforeEach, expect, test } from "vitest";
import { BIN, environment, runErgos, useDirectory } from "./ergos-cli.ts";

const directory = useDirectory();
let cwd: string;
let host: ChildProcess | undefined;
const service = (answer: string): string => `export default {
  name: "greeter",
  description: "greets",
  needs: ["processes"],
  contract: {
    name: "greeter/1",
    methods: { greet: { summary: "greets by name", tool: "pure", input: { type: "object", properties: { name: { type: "string" } }, required: ["name"] } } },
  },
  create: ({ config }) => ({
    check: () => ({ note: "at your service" }),
    greet: async ({ name }, { os }) => \`${answer} \${name}\${config?.mark ?? ""} from \${(await os.ps()).length > 0}\`,
  }),
};
`;
beforeEach(() => {
  cwd = directory.path;
  writeFileSync(join(cwd, "greeter.mjs"), service("hello"));
});
afterEach(() => host?.kill("SIGKILL"));

const ergos = (...args: readonly string[]) => runErgos(args, { cwd });
const json = (...args: readonly string[]): unknown => JSON.parse(ergos(...args, "--json").stdout);
async function up(): Promise<void> {
  host = spawn(process.execPath, [BIN, "up"], { cwd, env: environment(), stdio: ["ignore", "pipe", "pipe"] });
  let text = "";
  host.stdout?.on("data", (piece: Buffer) => (text += piece.toString()));
  for (let tries = 0; tries < 2000 && !text.includes("up over"); tries++) await delay(5);
}
const greet = (): unknown => json("service", "call", "greeter", "greet", '{ "name": "Ada" }');

test("a service of a module is added, called, swapped while its host runs, and there again with the next", async () => {
  expect(ergos("service", "add", "./greeter.mjs", "--config", "mark=!").stdout).toContain("a host that stays runs it");
  expect(json("service", "show", "greeter")).toMatchObject({
    state: "stopped",
    why: expect.stringContaining("ergos up") as string,
  });
  await up();
  expect(greet()).toBe("hello Ada! from true");
  expect(json("service", "check", "greeter")).toMatchObject({ ok: true, note: "at your service" });
  expect(json("exec", "/lib/tools/greeter.greet", '{ "name": "Bob" }')).toBe("hello Bob! from true");
  writeFileSync(join(cwd, "better.mjs"), service("good day"));
  expect(json("service", "swap", "greeter", "./better.mjs")).toMatchObject({ state: "ready" });
  expect(greet()).toBe("good day Ada! from true");
  host?.kill("SIGKILL");
  await up();
  expect(greet()).toBe("good day Ada! from true");
  expect(ergos("service", "stop", "processes").stdout).toContain("is stopped");
  expect(json("service", "show", "greeter")).toMatchObject({ state: "waiting" });
  expect(ergos("service", "list").stdout).toMatch(/greeter +waiting/u);
  expect(ergos("service", "start", "greeter").stdout).toContain("is ready");
  expect(ergos("service", "remove", "greeter").stdout).toContain("is gone");
  expect(ergos("service", "show", "greeter").status).toBe(1);
});

test("what was signed runs, and nothing else", () => {
  const { hash, signature, keyId } = json("service", "attest", "./greeter.mjs") as Readonly<Record<string, string>>;
  const strict = ["--attest", "strict", `--hash=${hash}`, `--signature=${signature}`, `--key=${keyId}`];
  expect(json("service", "add", "./greeter.mjs", ...strict)).toMatchObject({ state: "ready", attestation: "strict" });
  writeFileSync(join(cwd, "greeter.mjs"), service("goodbye"));
  const { stderr, status } = ergos("service", "start", "greeter");
  expect(status).toBe(1);
  expect(stderr).toContain("is not attested strict");
});

test("system libraries are there, and are started with their first call", () => {
  const list = json("service", "list") as readonly { readonly name: string; readonly state: string }[];
  expect(list.map(({ name }) => name)).toEqual(["processes", "entities", "scheduler", "events", "queues"]);
  expect(list.every(({ state }) => state === "stopped")).toBe(true);
  expect(
    json("service", "call", "entities", "define", '{ "type": "order", "initial": "new", "transitions": [] }'),
  ).toMatchObject({});
  expect(json("service", "call", "scheduler", "list")).toEqual([]);
  expect(ergos("service", "call", "scheduler", "none").stderr).toContain("it has add, list, set, remove");
  expect(ergos("service", "frob").status).toBe(2);
});
