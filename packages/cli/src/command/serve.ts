// `ergos serve`: faces of a host on a port of this machine.

import { randomBytes, timingSafeEqual } from "node:crypto";
import { readFileSync } from "node:fs";
import { KernelError } from "@ergos/kernel";
import { ownerPassPath } from "@ergos/server";
import { type Command, EXIT_OK, isSet, textOption, UsageError, wholeOption } from "../command.ts";
import { onEnding } from "../ending.ts";
import type { ErgOs } from "../connect.ts";
import { openHost } from "./run.ts";

type Login = NonNullable<ErgOs["login"]>;

const DEFAULT_PORT = 4747;
const PASSWORD_BYTES = 18;

export const serveCommand: Command = {
  name: "serve",
  arguments: 0,
  summary: "serve the files of this host to desktops and programs, by WebDAV",
  usage: "--webdav [--port N] [--host ADDRESS]",
  examples: ["ergos serve --webdav", "ergos serve --webdav --port 0 --json"],
  options: { webdav: { type: "boolean" }, port: { type: "string" }, host: { type: "string" } },
  run: async (invocation) => {
    if (!isSet(invocation, "webdav")) throw new UsageError("what is served? --webdav serves the files");
    const port = wholeOption(invocation, "port", DEFAULT_PORT, 0);
    if (port > 65_535) throw new UsageError("--port takes 0 to 65535; 0 is a free one");
    const { createDav, serveHttp } = await import("@ergos/server/webdav");
    await using os = await openHost(invocation, true);
    if (os.isRemote)
      throw new KernelError(
        "EBUSY",
        `a host is running over ${invocation.dir} already; end it, and this command is the host`,
      );
    const password = randomBytes(PASSWORD_BYTES).toString("base64url");
    const login = loginWith(password, ownPass(invocation.dir), (pass) => os.login(pass));
    const host = textOption(invocation, "host") ?? "127.0.0.1";
    await using server = await serveHttp(createDav({ login }), { host, port });
    if (!isLoopback(host)) invocation.out.error(`${host} is not loopback: what goes over it is not encrypted`);
    const url = `http://${server.host}:${server.port}/dav/`;
    invocation.out.answer(
      { url, password },
      () =>
        `the files are at ${url}; log in with any name and the password ${password}, or with a pass of \`ergos pass issue\`. Ctrl-C ends it`,
    );
    const stopped = Promise.withResolvers<void>();
    const unhear = onEnding(() => stopped.resolve());
    await stopped.promise;
    unhear();
    return EXIT_OK;
  },
};

/** The pass that this command was started with, or the owner's. */
function ownPass(dir: string): string {
  const { ERGOS_PASS: pass = "" } = process.env;
  return pass === "" ? readFileSync(ownerPassPath(dir), "utf8").trim() : pass;
}

/** Many clients take no password as long as a pass: a short one stands for one while this command runs. */
function loginWith(password: string, pass: string, login: Login): Login {
  const wanted = Buffer.from(password);
  return (given) => {
    const bytes = Buffer.from(given);
    return login(bytes.length === wanted.length && timingSafeEqual(bytes, wanted) ? pass : given);
  };
}

const isLoopback = (host: string): boolean => host === "localhost" || host === "::1" || host.startsWith("127.");
