// What ends what children have started, when their host has been killed: a shell that waits for the host's end, for the
// machine's own signal to a child reaches nothing below that.

import { type ChildProcess, spawn } from "node:child_process";

/** Waits until the host is gone, and kills what carries its mark; twice, for something may have been started meanwhile. */
const SCRIPT = `trap '' HUP INT TERM
cat >/dev/null
for round in 1 2; do
  for file in $(grep -lsz "^$1=.*/$2[.]" /proc/[0-9]*/environ); do
    pid=\${file#/proc/}
    kill -KILL "\${pid%/environ}" 2>/dev/null
  done
done`;

export class Reaper {
  readonly #variable: string;
  readonly #life: string;
  #shell: ChildProcess | undefined;

  /** @param variable of the environment that holds a mark, which names the life of the host behind its last slash */
  constructor(variable: string, life: string) {
    this.#variable = variable;
    this.#life = life;
  }

  /** Is there from the first child on. */
  watch(): void {
    if (this.#shell !== undefined) return;
    const shell = spawn("/bin/sh", ["-c", SCRIPT, "ergos-reaper", this.#variable, this.#life], {
      stdio: ["pipe", "ignore", "ignore"],
      // What ends the host by a key of a terminal does not end it.
      detached: true,
      env: { PATH: "/usr/bin:/bin" },
    });
    // A machine without a shell has nobody who does this; the next host ends what is left.
    shell.on("error", () => undefined);
    // Without descriptors there are no pipes, whatever the types say: the next child tries again.
    if ((shell as { readonly stdio?: unknown }).stdio === undefined) return;
    shell.stdin.on("error", () => undefined);
    shell.unref();
    // Its end of the pipe must not keep the host either.
    (shell.stdin as { unref?: () => void }).unref?.();
    this.#shell = shell;
  }

  close(): void {
    this.#shell?.stdin?.end();
    this.#shell = undefined;
  }
}
