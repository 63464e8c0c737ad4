// `ergos completion bash|zsh`: the names of commands and options for the shell.

import { type Command, EXIT_OK, UsageError, required } from "../command.ts";

/** Made with the table of commands, which stands in `main.ts`. */
export function completionCommand(
  names: readonly string[],
  optionsOf: (name: string) => Promise<readonly string[]>,
): Command {
  return {
    name: "completion",
    summary: "print the completion of a shell",
    usage: "bash | zsh",
    examples: ["source <(ergos completion bash)", "ergos completion zsh > ~/.zsh/completions/_ergos"],
    run: async (invocation) => {
      const shell = required(invocation, 0, "the shell (bash or zsh)");
      if (shell !== "bash" && shell !== "zsh")
        throw new UsageError(`completion knows bash and zsh, found ${JSON.stringify(shell)}`);
      const options = await Promise.all(names.map(async (name) => [name, await optionsOf(name)] as const));
      const text = shell === "bash" ? bash(names, options) : zsh(names, options);
      invocation.out.answer({ shell, text }, () => text);
      return EXIT_OK;
    },
  };
}

type Options = readonly (readonly [string, readonly string[]])[];

function bash(names: readonly string[], options: Options): string {
  return `_ergos() {
  local word="\${COMP_WORDS[COMP_CWORD]}"
  if [ "$COMP_CWORD" -eq 1 ]; then
    COMPREPLY=($(compgen -W "${names.join(" ")}" -- "$word"))
    return
  fi
  if [[ "$word" == -* ]]; then
    local options=""
    case "\${COMP_WORDS[1]}" in
${options.map(([name, list]) => `      ${name}) options="${list.join(" ")}" ;;`).join("\n")}
    esac
    COMPREPLY=($(compgen -W "$options" -- "$word"))
    return
  fi
  COMPREPLY=($(compgen -f -- "$word"))
}
complete -o filenames -F _ergos ergos
`;
}

function zsh(names: readonly string[], options: Options): string {
  return `#compdef ergos
_ergos() {
  if (( CURRENT == 2 )); then
    compadd -- ${names.join(" ")}
    return
  fi
  if [[ "$words[CURRENT]" == -* ]]; then
    case "$words[2]" in
${options.map(([name, list]) => `      ${name}) compadd -- ${list.join(" ")} ;;`).join("\n")}
    esac
    return
  fi
  _files
}
compdef _ergos ergos
`;
}
