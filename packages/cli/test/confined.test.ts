// Confined children: what they see of the machine, and that their only way out asks their rights and pays.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, readFileSync, readdirSync, symlinkSync, writeFileSync } from "node:fs";
import { type Server, createServer } from "node:http";
import { type AddressInfo, createServer as createTcpServer } from "node:net";
import { homedir } from "node:os";
import { join } from "node:path";
import { findBubblewrap } from "@ergos/drivers/runtime-process";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { BIN, environment, runErgos, useDirectory } from "./ergos-cli.ts";

const directory = useDirectory();
let cwd: string;
let server: Server;
let port: number;
const asked: string[] = [];

function commandOf(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0").slice(0, -1).join(" ");
  } catch {
    // It has ended meanwhile.
    return "";
  }
}

describe.skipIf(findBubblewrap() === undefined)("a confined child (needs the Debian package bubblewrap)", () => {
  beforeEach(async () => {
    cwd = directory.path;
    asked.length = 0;
    mkdirSync(join(cwd, "project"));
    server = createServer((request, response) => {
      asked.push(`${request.method ?? ""} ${request.url ?? ""}`);
      response.end("x".repeat(request.url === "/large" ? 100_000 : 10));
    });
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    ({ port } = server.address() as AddressInfo);
  });
  afterEach(async () => {
    server.closeAllConnections();
    server.close();
    await once(server, "close");
  });

  const run = async (code: string, more: readonly string[] = []) => {
    const isNamed = more[0]?.endsWith("agent.mjs") === true;
    const file = isNamed ? (more[0] ?? "") : "project/agent.mjs";
    writeFileSync(join(cwd, file), code);
    const args = ["run", file, "--confined", "--json", ...(isNamed ? more.slice(1) : more)];
    const child = spawn(process.execPath, [BIN, ...args], {
      cwd,
      env: environment({ SECRET_OF_HOST: "planted" }),
    });
    let [stdout, stderr] = ["", ""];
    child.stdout.on("data", (part: Buffer) => (stdout += part.toString()));
    child.stderr.on("data", (part: Buffer) => (stderr += part.toString()));
    const [status] = (await once(child, "close")) as [number];
    return { status, answer: JSON.parse(stdout.trim().split("\n").at(-1) ?? "{}") as Record<string, unknown>, stderr };
  };

  test("finds packages that are installed behind a link", async () => {
    mkdirSync(join(cwd, "installed", "dep"), { recursive: true });
    writeFileSync(join(cwd, "installed", "dep", "package.json"), '{"name":"dep","type":"module","exports":"./it.js"}');
    writeFileSync(join(cwd, "installed", "dep", "it.js"), "export const it = 7;\n");
    symlinkSync(join(cwd, "installed"), join(cwd, "project", "node_modules"));
    writeFileSync(join(cwd, "project", "package.json"), '{"type":"module"}');
    const { answer } = await run('import { it } from "dep";\nexport default () => it;\n');

    expect(answer).toMatchObject({ code: 0, result: 7 });
  });

  test("sees its project and what it runs on, read-only, and nothing else of the machine", async () => {
    writeFileSync(join(cwd, "project", "package.json"), '{"type":"module"}');
    writeFileSync(join(cwd, "project", ".env"), "KEY=planted");
    mkdirSync(join(cwd, "project", "other", "data"), { recursive: true });
    writeFileSync(join(cwd, "project", "other", ".env"), "KEY=planted");
    writeFileSync(join(cwd, "project", ".envrc"), "export KEY=planted");
    writeFileSync(join(cwd, "project", "other", "data", "store.db"), "planted");
    writeFileSync(join(cwd, "outside"), "planted");
    const { answer, stderr } = await run(
      `import { existsSync, readFileSync, readdirSync, writeFileSync } from "node:fs";
const attempt = (work) => { try { return work(); } catch (error) { return error.code; } };
export default async (input, { os }) => {
  writeFileSync("/tmp/mine", "1");
  return {
    own: attempt(() => readFileSync(new URL("./agent.mjs", import.meta.url), "utf8").length > 100),
    env: attempt(() => readFileSync(new URL("./.env", import.meta.url), "utf8")),
    beside: ["./other/.env", "./.envrc", "./other/data/store.db"].map((file) =>
      attempt(() => readFileSync(new URL(file, import.meta.url), "utf8"))),
    write: attempt(() => writeFileSync(new URL("./new", import.meta.url), "1")),
    outside: existsSync(${JSON.stringify(join(cwd, "outside"))}),
    data: attempt(() => readdirSync(${JSON.stringify(join(cwd, ".ergos"))})),
    home: existsSync(${JSON.stringify(join(homedir(), ".bashrc"))}) || existsSync(${JSON.stringify(join(homedir(), ".npmrc"))}),
    secret: process.env.SECRET_OF_HOST ?? null,
    processes: readdirSync("/proc").filter((name) => /^\\d+$/.test(name)).length < 5,
    file: await os.fs.writeFile("/srv/out", "by the child").then(() => os.fs.readText("/srv/out")),
  };
};`,
    );
    expect(stderr).toBe("");
    expect(answer["result"]).toEqual({
      own: true,
      env: "EACCES",
      beside: ["EACCES", "EACCES", "ENOENT"],
      write: "EROFS",
      outside: false,
      data: "ENOENT",
      home: false,
      secret: null,
      processes: true,
      file: "by the child",
    });
    expect(existsSync("/tmp/mine")).toBe(false);
    const [summary] = JSON.parse(runErgos(["ps", "--all", "--json"], { cwd }).stdout) as Record<string, unknown>[];
    expect(summary).toMatchObject({ runtime: "process", confined: true });
  });

  test("of a workspace sees its own package, over a link too, whatever is called .env there", async () => {
    const app = join(cwd, "project", "packages", "app");
    for (const folder of [join(app, "inner"), join(app, ".env"), join(cwd, "project", "node_modules")])
      mkdirSync(folder, { recursive: true });
    writeFileSync(join(cwd, "project", "package.json"), "{}");
    writeFileSync(join(cwd, "project", ".env"), "KEY=planted");
    writeFileSync(join(app, "package.json"), '{"type":"module"}');
    writeFileSync(join(app, ".env", "file"), "planted");
    writeFileSync(join(app, "inner", ".env.local"), "KEY=planted");
    symlinkSync(app, join(cwd, "project", "linked"));
    const { answer } = await run(
      `import { existsSync, readFileSync, readdirSync } from "node:fs";
const attempt = (work) => { try { return work(); } catch (error) { return error.code; } };
export default () => ({
  own: readdirSync(${JSON.stringify(app)}).includes("inner"),
  root: existsSync(${JSON.stringify(join(cwd, "project", ".env"))}),
  folder: readdirSync(${JSON.stringify(join(app, ".env"))}).length,
  inner: attempt(() => readFileSync(${JSON.stringify(join(app, "inner", ".env.local"))}, "utf8")),
});`,
      ["project/linked/inner/agent.mjs"],
    );
    expect(answer["result"]).toEqual({ own: true, root: false, folder: 0, inner: "EACCES" });
  });

  const CALLS = `import { connect } from "node:net";
const direct = (port) => new Promise((resolve) => connect(port, "127.0.0.1").on("connect", () => resolve("through")).on("error", (error) => resolve(error.code)));
const ask = async (url) => { try { const answer = await fetch(url); const text = await answer.text(); return answer.status + " " + text.length; } catch (error) { return String(error.cause?.code ?? error.cause?.message ?? error.message); } };
export default async ({ port }) => {
  const out = {};
  out.direct = await direct(Number(port));
  out.allowed = await ask("http://127.0.0.1:" + port + "/small");
  out.denied = await ask("http://localhost:" + port + "/");
  out.large = await ask("http://127.0.0.1:" + port + "/large");
  return out;
};`;

  test("reaches by its proxy what its rights name, and pays for each byte", async () => {
    const { answer } = await run(CALLS, [
      "--input",
      `port=${port}`,
      "--cap",
      `net.connect:127.0.0.1:${port}`,
      "--cap",
      "net.private",
      "--cap",
      "self",
    ]);
    expect(answer["result"]).toMatchObject({ direct: "ECONNREFUSED", allowed: "200 10", large: "200 100000" });
    expect((answer["result"] as { denied: string }).denied).not.toContain("200");
    expect(asked).toEqual(["GET /small", "GET /large"]);
    const usage = JSON.parse(runErgos(["usage", "--by", "tool", "--json"], { cwd }).stdout) as {
      used: { netBytes: number };
    }[];
    // With the headers, both ways.
    expect(usage[0]?.used.netBytes).toBeGreaterThan(100_010);
    expect(usage[0]?.used.netBytes).toBeLessThan(102_000);
    const log = runErgos(["audit", "log", "--json"], { cwd }).stdout;
    expect(log).toContain('"call":"connect"');
  });

  test("uses up a counted right once for each connection, however many pieces pass", async () => {
    const counted = `net.connect:127.0.0.1:${port}; uses=2`;
    const { answer } = await run(CALLS, [
      "--input",
      `port=${port}`,
      "--cap",
      counted,
      "--cap",
      "net.private",
      "--cap",
      "self",
    ]);
    expect(answer["result"]).toMatchObject({ allowed: "200 10", large: "200 100000" });
  });

  test("cannot harm its host by what it asks for, or what it is answered", async () => {
    const rude = createTcpServer((socket) => {
      socket.once("data", () => socket.end(replies.shift() ?? ""));
      socket.on("error", () => undefined);
    });
    const replies = [
      "HTTP/1.1 200 OK\r\nTrailer: X\r\nContent-Length: 2\r\n\r\nok",
      "HTTP/1.1 050 Odd\r\n\r\n",
      "no http at all",
    ];
    rude.listen(0, "127.0.0.1");
    await once(rude, "listening");
    const at = (rude.address() as AddressInfo).port;
    const { answer, status } = await run(
      `import http from "node:http";
import net from "node:net";
const get = (url) => new Promise((resolve) => http.get(url, { agent: new http.Agent({ proxyEnv: process.env }) }, (answer) => { answer.resume(); answer.on("end", () => resolve(answer.statusCode)); answer.on("error", () => resolve("cut")); }).on("error", (error) => resolve(error.code)));
const say = (text) => new Promise((resolve) => { let got = ""; const socket = net.connect(8118, "127.0.0.1", () => socket.write(text)); socket.on("data", (part) => (got += part)).on("close", () => resolve(got.split("\\r\\n")[0])).on("error", () => undefined); });
export default async ({ port }) => {
  const out = [];
  for (let at = 0; at < 3; at++) out.push(await get("http://127.0.0.1:" + port + "/"));
  out.push(await say("POST http://127.0.0.1:1/ HTTP/1.1\\r\\nHost: x\\r\\nExpect: 100-continue\\r\\nTrailer: x\\r\\nContent-Length: 0\\r\\n\\r\\n"));
  out.push(await say("CONNECT user@127.0.0.1:80 HTTP/1.1\\r\\n\\r\\n"), await say("nonsense\\r\\n\\r\\n"));
  return out;
};`,
      ["--input", `port=${at}`],
    );
    rude.close();
    expect(status).toBe(0);
    const result = answer["result"] as (number | string)[];
    expect(result[0]).toBe(200);
    expect(result.slice(3)).toEqual([
      "HTTP/1.1 502 Bad Gateway",
      "HTTP/1.1 400 Bad Request",
      "HTTP/1.1 400 Bad Request",
    ]);
  });

  test("gets no byte beyond its budget", async () => {
    const { answer } = await run(CALLS, ["--input", `port=${port}`, "--limit", "netBytes=1000"]);
    const result = answer["result"] as { allowed: string; large: string };
    expect(result.allowed).toBe("200 10");
    expect(result.large).not.toContain("200 100000");
    const usage = JSON.parse(runErgos(["usage", "--by", "pid", "--json"], { cwd }).stdout) as {
      used: { netBytes: number };
    }[];
    expect(usage[0]?.used.netBytes ?? 0).toBeLessThanOrEqual(1000);
  });

  test("leaves nothing behind, also what has left its group", async () => {
    const { answer } = await run(
      `import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
export default async () => {
  const left = spawn("sleep", ["61.73"], { detached: true, stdio: "ignore" });
  left.unref();
  await new Promise((go) => setTimeout(go, 50));
  return existsSync("/proc/" + left.pid);
};`,
    );
    expect(answer["result"]).toBe(true);
    const running = (): readonly string[] =>
      readdirSync("/proc").filter((pid) => /^\d+$/.test(pid) && commandOf(pid) === "sleep 61.73");
    await expect.poll(running, { timeout: 5000 }).toEqual([]);
  });

  test("cannot start a module of its own in the host", async () => {
    const { answer } = await run(
      `export default async (input, { os }) => {
  const tries = [{ export: "inner" }, { export: "inner", confined: false }, { export: "inner", runtime: "inline", confined: false }, { export: "inner", runtime: "inline" }];
  const out = [];
  for (const program of tries) {
    try { out.push((await os.wait(await os.spawn(program))).result); } catch (error) { out.push(error.code); }
  }
  return out;
};
export async function inner() { return process.env.HOME; }`,
      ["--cap", "self", "--cap", "proc.*"],
    );
    expect(answer["result"]).toEqual(["/tmp", "EACCES", "EACCES", "EACCES"]);
  });
});

test("only a process of the machine is confined", () => {
  writeFileSync(join(directory.path, "agent.mjs"), "export default () => 1;\n");
  const refused = runErgos(["run", "agent.mjs", "--confined", "--runtime", "worker"], { cwd: directory.path });
  expect(refused).toMatchObject({ status: 2, stderr: expect.stringContaining("EINVAL") as unknown });
});
