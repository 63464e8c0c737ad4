// The command line: finds the command, reads its options, turns errors into one clear message.

import { Console } from "node:console";
import { readdirSync, writeSync } from "node:fs";
import { parseArgs } from "node:util";
import { nearest } from "@ergos/compiler/names";
import { KERNEL_VERSION, KernelError, describe, isKernelError } from "@ergos/kernel";
import { type Command, EXIT_FAILED, EXIT_OK, EXIT_USAGE, UsageError } from "./command.ts";
import { COMMANDS, COMMON } from "./commands.ts";
import { optionText } from "./option-help.ts";
import { DEFAULT_ZONE, zoneDirectory } from "./zone.ts";
import { loadEnvironment } from "./environment.ts";
import { type Output, createOutput, table } from "./terminal.ts";

async function main(argv: readonly string[]): Promise<number> {
  const [name, ...rest] = argv;
  const own = rest.includes("--") ? rest.slice(0, rest.indexOf("--")) : rest;
  const out = createOutput(own.includes("--json"));
  if (name === "--version" || name === "-v") {
    out.answer({ version: KERNEL_VERSION }, ({ version }) => version);
    return EXIT_OK;
  }
  if (name === "help" && rest[0] !== undefined && !rest[0].startsWith("-"))
    return main([rest[0], "--help", ...rest.slice(1)]);
  if (name === undefined || name === "help" || name === "--help" || name === "-h") {
    if (out.isJson) out.answer(summaries(), String);
    else out.line(overview());
    return EXIT_OK;
  }
  const entry = Object.hasOwn(COMMANDS, name) ? COMMANDS[name] : undefined;
  if (entry === undefined) {
    const message = `[EINVAL] ergos has no command ${JSON.stringify(name)}${didYouMean(name)}; \`ergos help\` lists them`;
    if (out.isJson) out.answer({ error: { code: "EINVAL", message } }, String);
    else out.error(message);
    return EXIT_USAGE;
  }
  loadEnvironment(process.cwd());
  // What an inline program prints is not the answer.
  if (out.isJson) globalThis.console = new Console(process.stderr);
  const command = await entry.load();
  try {
    const { values, positionals } = parseArgs({
      args: [...rest],
      options: { ...COMMON, ...command.options },
      allowPositionals: true,
      strict: true,
    });
    if (values["help"] === true) {
      const { usage, summary, examples, options = {} } = command;
      const names = Object.keys({ ...COMMON, ...options });
      const shown = {
        command: command.name,
        summary,
        usage,
        examples,
        options: names,
        meanings: Object.fromEntries(names.map((name) => [name, optionText(command.name, name)])),
      };
      out.answer(shown, () => helpOf(command));
      return EXIT_OK;
    }
    const extra = command.arguments === undefined ? undefined : positionals[command.arguments];
    if (extra !== undefined) throw new UsageError(`${JSON.stringify(extra)} is one argument too many`);
    const dir = typeof values["dir"] === "string" ? values["dir"] : (process.env["ERGOS_DIR"] ?? ".ergos");
    if (dir === "") throw new UsageError("--dir (or ERGOS_DIR) names no directory");
    const zone = typeof values["zone"] === "string" ? values["zone"] : (process.env["ERGOS_ZONE"] ?? DEFAULT_ZONE);
    const at = zoneDirectory(dir, zone);
    const { needsData = false } = command;
    const mayMake = !(typeof needsData === "function" ? needsData(positionals) : needsData);
    if (!mayMake && !hasData(at))
      throw new KernelError(
        "ENOENT",
        `there is no data in ${at}; \`ergos run\` makes some, --dir (or ERGOS_DIR) names another directory`,
        { path: at },
      );
    return await command.run({ positionals, values, dir: at, out });
  } catch (error) {
    // Nobody reads it any more, which is no failure of what was asked for.
    if (error instanceof Error && !isKernelError(error) && "code" in error && error.code === "EPIPE") return EXIT_OK;
    return explain(error, command, out, rest);
  } finally {
    out.end();
  }
}

/** What Node says about options, without its advice for programmers; and the option that was probably meant. */
function usageFault(error: unknown, command: Command, argv: readonly string[]): string {
  const [said = ""] = describe(error).split("\n", 1);
  const [, option = ""] = /(--[\w-]+)[^']*' argument is ambiguous/.exec(said) ?? [];
  const value = argv.find((arg, at) => argv[at - 1] === option && arg.startsWith("-"));
  if (value !== undefined)
    return `${option} is followed by ${JSON.stringify(value)}; a value that begins with a dash is written ${option}=${value}`;
  const known = Object.keys({ ...COMMON, ...command.options });
  const wrong = argv.find((arg) => arg.startsWith("--") && !known.includes(arg.slice(2).split("=", 1)[0] ?? ""));
  if (wrong === undefined || error instanceof UsageError) return said;
  const match = nearest(wrong.slice(2).split("=", 1)[0] ?? "", known);
  return `${command.name} has no option ${wrong.split("=", 1)[0] ?? ""}${match === undefined ? "" : `; did you mean --${match}?`}`;
}

function explain(thrown: unknown, command: Command, out: Output, argv: readonly string[]): number {
  const error = causeOf(thrown);
  const isUsage =
    error instanceof UsageError ||
    (error instanceof TypeError && "code" in error && String(error.code).startsWith("ERR_PARSE_ARGS"));
  const code = isKernelError(error) ? error.code : isUsage ? "EINVAL" : "EFAILED";
  // What Node says about options goes on with advice for programmers on further lines.
  const text = isUsage ? usageFault(error, command, argv) : describe(error);
  const message = isKernelError(error) ? error.message : `[${code}] ${text}`;
  if (out.isJson) out.answer({ error: { code, message } }, String);
  else {
    out.error(out.style("red", message));
    for (let cause = error instanceof Error ? error.cause : undefined; cause instanceof Error; cause = cause.cause) {
      if (!message.includes(cause.message)) out.error(`  because: ${describe(cause)}`);
    }
    if (isUsage) out.error(`usage: ergos ${command.name} ${command.usage}`);
  }
  // What the kernel refuses as none of its arguments was typed here.
  return isUsage || code === "EINVAL" ? EXIT_USAGE : EXIT_FAILED;
}

/** What went wrong first, where taking things apart has failed too. */
function causeOf(error: unknown): unknown {
  return error instanceof SuppressedError ? causeOf(error.suppressed) : error;
}

const summaries = (): readonly { readonly name: string; readonly summary: string }[] =>
  Object.entries(COMMANDS).map(([name, { summary }]) => ({ name, summary }));

function overview(): string {
  const rows = summaries().map(({ name, summary }) => [`  ${name}`, summary]);
  return [
    "ErgOS, an operating system for AI agents",
    "",
    "usage: ergos <command> [options]",
    "",
    table(rows),
    "",
    "Every command takes --json, --dir DIRECTORY (default $ERGOS_DIR or .ergos), --zone NAME (default $ERGOS_ZONE",
    "or the default zone) and --help.",
    "Exit status: 0 done, 1 failed, 2 wrong call, 128 + n ended by signal n.",
  ].join("\n");
}

function helpOf(command: Command): string {
  return [
    `ergos ${command.name}: ${command.summary}`,
    "",
    `usage: ergos ${command.name} ${command.usage}`,
    "",
    "options:",
    ...optionLines(command).map((line) => `  ${line}`),
    "",
    "examples:",
    ...command.examples.map((example) => `  ${example}`),
  ].join("\n");
}

/** Files of which a data directory has one. */
const STORES: ReadonlySet<string> = new Set(["store.db", "store.mdb"]);

/** What each option of a command means, those of its own first. */
function optionLines({ name, options = {} }: Command): readonly string[] {
  const names = [...Object.keys(options), ...Object.keys(COMMON)];
  const width = Math.max(...names.map((option) => option.length));
  return names.map((option) => `--${option.padEnd(width)}  ${optionText(name, option) ?? ""}`);
}

/** @throws {EACCES} nobody but another user may look */
function hasData(dir: string): boolean {
  try {
    return readdirSync(dir).some((name) => STORES.has(name));
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === "EACCES")
      throw new KernelError("EACCES", `${dir} may not be read by this user`, { path: dir, cause });
    return false;
  }
}

/** The command that was probably meant. */
function didYouMean(name: string): string {
  const match = nearest(name, Object.keys(COMMANDS));
  return match === undefined ? "" : `; did you mean ${match}?`;
}

/** What still goes on when nobody reads it any more ends after so long. */
const UNREAD_MS = 300;

// A pipe that is closed early (`ergos ls | head`) is no error, nor is a terminal that is gone; who holds a host closes it
// first.
for (const stream of [process.stdout, process.stderr]) stream.on("error", () => undefined);
process.stdout.once("error", (error: NodeJS.ErrnoException) => {
  const isGone = error.code === "EIO" && process.stdout.isTTY;
  if (error.code === "EPIPE" || isGone) {
    if (isGone ? process.emit("SIGHUP", "SIGHUP") : process.emit("SIGTERM", "SIGTERM")) return;
    // What has come to its end says so by its number, whoever reads what it prints.
    setTimeout(() => process.exit(EXIT_OK), UNREAD_MS);
    return;
  }
  process.stderr.write(`[EIO] the answer cannot be written: ${error.message}\n`);
  process.exit(EXIT_FAILED);
});
/** A failure that no program caught: it may have left anything in any state, so this host ends. */
function endOnStray(error: unknown): void {
  const where =
    error instanceof Error ? (/\n\s+at [^\n]*?((?:file:\/\/|\/)[^\n)]+)/.exec(error.stack ?? "")?.[1] ?? "") : "";
  const message = `[EFAILED] a promise or timer that nobody waits for failed${where === "" ? "" : ` at ${where}`}: ${describe(error)}`;
  // At once: nothing waits for a stream any more.
  if (process.argv.includes("--json")) writeSync(1, `${JSON.stringify({ error: { code: "EFAILED", message } })}\n`);
  else process.stderr.write(`${message}\nThis host ends; its runs sleep. Go on with: ergos resume\n`);
  process.removeAllListeners("exit");
  process.exit(EXIT_FAILED);
}
process.on("unhandledRejection", (error) => {
  if (!isKernelError(error)) return endOnStray(error);
  // A call of the kernel leaves nothing behind that is half done. Late results of what has ended are discarded.
  if (error.code !== "ESRCH") process.stderr.write(`a call that nobody waits for failed: ${error.message}\n`);
});
process.on("uncaughtException", endOnStray);

// What it waits for may be a person: nothing else keeps the loop then.
const waiting = setInterval(() => undefined, 2 ** 30);
const status = await main(process.argv.slice(2));
clearInterval(waiting);
// Everything is closed; what Node would still take apart is taken back by the system. Written is written first.
process.stdout.write("", () => process.exit(status));
