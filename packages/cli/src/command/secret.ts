// `ergos secret`: secrets of the data directory, encrypted at rest.

import { existsSync, mkdirSync } from "node:fs";
import { resolve } from "node:path";
import { type Command, EXIT_FAILED, EXIT_OK, UsageError, required } from "../command.ts";

export const secretCommand: Command = {
  name: "secret",
  needsData: ([what]) => what !== "set",
  arguments: 2,
  summary: 'keep secrets of the data directory, encrypted; programs read them with `os.call("secret", { name })`',
  usage:
    "list | set <name> | remove <name>\n  The value is read from stdin. The key is in keys/ of the data directory, or comes from ERGOS_SECRETS_PASSPHRASE.",
  examples: [
    'printf %s "$KEY" | ergos secret set OPENAI_API_KEY',
    "ergos secret list",
    "ergos secret remove OPENAI_API_KEY",
  ],
  run: async (invocation) => {
    const what = required(invocation, 0, "what to do: list, set or remove");
    const { out } = invocation;
    const dir = resolve(invocation.dir);
    if (!existsSync(dir)) mkdirSync(dir, { recursive: true, mode: 0o700 });
    const { openSecrets } = await import("../boot.ts");
    const secrets = openSecrets(dir);
    switch (what) {
      case "list":
        out.answer(secrets.names(), (names) => (names.length === 0 ? "no secrets" : names.join("\n")));
        return EXIT_OK;
      case "set": {
        const name = required(invocation, 1, "the name of the secret");
        if (process.stdin.isTTY) throw new UsageError("give the value on stdin, so that no history keeps it");
        let value = "";
        for await (const chunk of process.stdin) value += String(chunk);
        value = value.replace(/\r?\n$/, "");
        if (value === "") throw new UsageError("the value on stdin is empty");
        secrets.set(name, value);
        out.answer({ name }, () => `${name} is kept`);
        return EXIT_OK;
      }
      case "remove": {
        const name = required(invocation, 1, "the name of the secret");
        const isGone = secrets.remove(name);
        out.answer({ name, removed: isGone }, () => (isGone ? `${name} is removed` : `there is no secret ${name}`));
        return isGone ? EXIT_OK : EXIT_FAILED;
      }
      default:
        throw new UsageError(`secret takes list, set or remove; found ${what}`);
    }
  },
};
