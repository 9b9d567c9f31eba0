"""`avssl completion bash|zsh|fish`: a script that lets a shell complete commands, options, choices, presets and paths.

The script is complete: it never calls avssl. bash and zsh share the tables, which are `case` statements.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from .commands import AVSSL, Program
from .config import CompletionConfig
from .config.option import Key, accepted_keys
from .config.presets import card_names, used_groups
from .help import ALL, GENERAL

FLAGS = ("--help", "--quiet", "--verbose", "--show-config")

FOLDERS, FILES = "%folders", "%files"
"""Stand in place of choices: the shell then completes folders, or files and folders."""


@dataclass
class Completions:
    """What may follow a command."""

    options: list[str]
    values: dict[str, str]
    """The choices of an option, separated by spaces, or `FOLDERS` or `FILES`; options without either are left out."""
    topics: list[str]
    """What may follow `--help`."""
    word: str
    """What a bare word may be, in the form of `values`."""
    flags: list[str]


def run(config: CompletionConfig) -> None:
    """Print the script for a shell."""
    print(script(config.shell, AVSSL), end="")


def script(shell: str, program: Program) -> str:
    """The script for `bash`, `zsh` or `fish`."""
    writers: dict[str, Callable[[str, dict[str, Completions]], str]] = {"bash": _bash, "zsh": _zsh, "fish": _fish}
    return writers[shell](program.name, {name: completions(program, name) for name in program.commands})


def completions(program: Program, name: str) -> Completions:
    """What may follow a command, from the declarations of its options."""
    command = program.commands[name]
    keys, choices = accepted_keys(command.schema), used_groups(name, program.configs, own=False)
    values = {key.name: value for key in keys if (value := _values(name, key))}
    values |= {group: " ".join(names) for group, names in choices.items()}
    options = [*(key.name for key in keys), *choices]
    sections = [key.name.partition(".")[0] if "." in key.name else GENERAL for key in keys]
    topics = [*dict.fromkeys([*sections, *choices, ALL, *(key.name for key in keys)])]
    flags = [*FLAGS, *(["--multirun"] if command.run_all else [])]
    return Completions(options, values, topics, values.get(command.positional, ""), flags)


def _values(command: str, key: Key) -> str:
    if key.choices:
        return " ".join(key.choices)
    if key.kind is bool:
        return "true false"
    if key.path:
        return FOLDERS if "folder" in key.path or key.path == "run" else FILES
    return " ".join(card_names()) if command.startswith("models ") and key.name == "name" else ""


def _cases(rows: Iterable[tuple[str, str]], variable: str) -> list[str]:
    """The lines of a `case` that sets a variable; patterns with the same value share a line."""
    by_value: dict[str, list[str]] = {}
    for pattern, value in rows:
        by_value.setdefault(value, []).append(f"'{pattern}'")
    return [f"    {'|'.join(patterns)}) {variable}='{value}' ;;" for value, patterns in by_value.items() if value]


def _tables(name: str, found: dict[str, Completions]) -> str:
    """Functions of bash and zsh that set variables to what may follow a command, or the `=` of an option."""
    values = [(f"{command} {key}", value) for command, all_of in found.items() for key, value in all_of.values.items()]
    lines = [f"_{name}_commands='{' '.join(dict.fromkeys(x.partition(' ')[0] for x in found))}'"]
    for table, rows in (
        ("subcommands", _subcommands(found)),
        ("options", [(x, " ".join(f"{option}=" for option in of.options)) for x, of in found.items()]),
        ("flags", [(x, " ".join(of.flags)) for x, of in found.items()]),
        ("topics", [(x, " ".join(of.topics)) for x, of in found.items()]),
        ("word", [(x, of.word) for x, of in found.items()]),
        ("values", values),
    ):
        body = _cases(rows, f"_{name}_{table}")
        lines += [f"_{name}_set_{table}() {{", f"  _{name}_{table}=", '  case "$1" in', *body, "  esac", "}"]
    return "\n".join(lines)


def _subcommands(found: dict[str, Completions]) -> list[tuple[str, str]]:
    rows: dict[str, list[str]] = {}
    for command in found:
        first, _, second = command.partition(" ")
        if second:
            rows.setdefault(first, []).append(second)
    return [(first, " ".join(names)) for first, names in rows.items()]


def _bash(name: str, found: dict[str, Completions]) -> str:
    return BASH.replace("NAME", name).replace("TABLES", _tables(name, found))


def _zsh(name: str, found: dict[str, Completions]) -> str:
    return ZSH.replace("NAME", name).replace("TABLES", _tables(name, found))


def _fish(name: str, found: dict[str, Completions]) -> str:
    def table(title: str, rows: Iterable[tuple[str, str]]) -> list[str]:
        by_value: dict[str, list[str]] = {}
        for pattern, value in rows:
            by_value.setdefault(value, []).append(f"'{pattern}'")
        body = [
            line
            for value, patterns in by_value.items()
            if value
            for line in (f"        case {' '.join(patterns)}", f"            string split ' ' -- '{value}'")
        ]
        return [f"function __{name}_{title}", '    switch "$argv"', *body, "    end", "end"]

    values = [(f"{command} {key}", value) for command, all_of in found.items() for key, value in all_of.values.items()]
    firsts = " ".join(dict.fromkeys(x.partition(" ")[0] for x in found))
    lines = [
        f"set -g __{name}_commands {firsts}",
        *table("subcommands", _subcommands(found)),
        *table("options", [(x, " ".join(f"{option}=" for option in of.options)) for x, of in found.items()]),
        *table("flags", [(x, " ".join(of.flags)) for x, of in found.items()]),
        *table("topics", [(x, " ".join(of.topics)) for x, of in found.items()]),
        *table("word", [(x, of.word) for x, of in found.items()]),
        *table("values", values),
    ]
    return FISH.replace("NAME", name).replace("TABLES", "\n".join(lines))


BASH = r"""# completion of NAME for bash: eval "$(NAME completion bash)"
TABLES
_NAME_reply() {  # the choices in $1 that begin with $2, each with $3 before it
  local IFS=$' \t\n' choice
  for choice in $1; do
    if [[ "$choice" == "$2"* ]]; then COMPREPLY+=("$3$choice"); fi
  done
}
_NAME_values_of() {  # completes the value $2, of which $1 says what it may be, with $3 before it
  local IFS=$'\n' path
  case "$1" in
    '') ;;
    %folders|%files)
      for path in $(if [[ "$1" == %folders ]]; then compgen -d -- "$2"; else compgen -f -- "$2"; fi); do
        COMPREPLY+=("$3$path")
      done
      # only for paths: readline would escape the = of an option
      if [[ ${#COMPREPLY[@]} -gt 0 ]] && type compopt &>/dev/null; then compopt -o filenames; fi ;;
    *)
      if [[ "$2" == *,* ]]; then _NAME_reply "$1" "${2##*,}" "$3${2%,*},"; else _NAME_reply "$1" "$2" "$3"; fi ;;
  esac
}
_NAME() {
  COMPREPLY=()
  local word="${COMP_WORDS[COMP_CWORD]}" at=1 command='' key='' value='' before='' topics=''
  while [[ $at -lt $COMP_CWORD && "${COMP_WORDS[at]}" == -[qv]* ]]; do at=$((at + 1)); done
  if [[ $at -lt $COMP_CWORD && "${COMP_WORDS[at]}" == help ]]; then topics=1; at=$((at + 1)); fi
  if [[ $at -ge $COMP_CWORD ]]; then
    if [[ "$word" == -* ]]; then _NAME_reply '--help --version --quiet --verbose' "$word" ''
    elif [[ "$topics" ]]; then _NAME_reply "$_NAME_commands" "$word" ''
    else _NAME_reply "$_NAME_commands help" "$word" ''; fi
    return 0
  fi
  command="${COMP_WORDS[at]}"
  _NAME_set_subcommands "$command"
  if [[ "$_NAME_subcommands" && $((at + 1)) -lt $COMP_CWORD && " $_NAME_subcommands " == *" ${COMP_WORDS[at + 1]} "* ]]
  then
    command="$command ${COMP_WORDS[at + 1]}"
    _NAME_subcommands=''
    at=$((at + 1))
  fi
  local i
  for ((i = at + 1; i < COMP_CWORD; i++)); do
    case "${COMP_WORDS[i]}" in -h|--help) topics=1 ;; esac
  done
  if [[ "$topics" ]]; then
    _NAME_set_topics "$command"
    _NAME_reply "$_NAME_topics $_NAME_subcommands" "$word" ''
    return 0
  fi
  if [[ "$word" == '=' ]]; then key="${COMP_WORDS[COMP_CWORD - 1]}"
  elif [[ "${COMP_WORDS[COMP_CWORD - 1]}" == '=' ]]; then key="${COMP_WORDS[COMP_CWORD - 2]}"; value="$word"
  elif [[ "$word" == *=* ]]; then key="${word%%=*}"; value="${word#*=}"; before="$key="
  elif [[ "${COMP_WORDS[COMP_CWORD - 1]}" == --?* && "$word" != -* ]]; then
    key="${COMP_WORDS[COMP_CWORD - 1]}"; value="$word"
    _NAME_set_flags "$command"
    if [[ " $_NAME_flags " == *" $key "* ]]; then key=''; fi
  fi
  if [[ "$key" ]]; then
    key="${key#--}"
    _NAME_set_values "$command $key"
    _NAME_values_of "$_NAME_values" "$value" "$before"
    return 0
  fi
  _NAME_set_options "$command"
  if [[ "$word" == -* ]]; then
    _NAME_set_flags "$command"
    _NAME_reply "$_NAME_flags" "$word" ''
    if [[ "$word" == --* ]]; then _NAME_reply "$_NAME_options" "${word#--}" '--'; fi
  else
    _NAME_set_word "$command"
    _NAME_values_of "$_NAME_word" "$word" ''
    _NAME_reply "$_NAME_options $_NAME_subcommands" "$word" ''
  fi
  if [[ ${#COMPREPLY[@]} -eq 1 && "${COMPREPLY[0]}" == *= ]]; then
    type compopt &>/dev/null && compopt -o nospace
  fi
  return 0
}
complete -F _NAME NAME
"""

ZSH = r"""#compdef NAME
# completion of NAME for zsh: eval "$(NAME completion zsh)", after compinit
TABLES
_NAME_values_of() {  # completes a value, of which $1 says what it may be
  case "$1" in
    '') return 1 ;;
    %folders) _files -/ ;;
    %files) _files ;;
    *) compset -P '*,'; compadd -- ${=1} ;;
  esac
}
_NAME() {
  local at=2 command='' key='' topics='' i
  while (( at < CURRENT )) && [[ $words[at] == -[qv]* ]]; do (( at++ )); done
  if (( at < CURRENT )) && [[ $words[at] == help ]]; then topics=1; (( at++ )); fi
  if (( at >= CURRENT )); then
    if [[ $PREFIX == -* ]]; then compadd -- --help --version --quiet --verbose
    else compadd -- ${=_NAME_commands}; [[ $topics ]] || compadd -- help; fi
    return
  fi
  command=$words[at]
  _NAME_set_subcommands $command
  if [[ -n $_NAME_subcommands ]] && (( at + 1 < CURRENT )) && [[ " $_NAME_subcommands " == *" $words[at+1] "* ]]; then
    command="$command $words[at+1]"
    _NAME_subcommands=''
    (( at++ ))
  fi
  for (( i = at + 1; i < CURRENT; i++ )); do [[ $words[i] == (-h|--help) ]] && topics=1; done
  if [[ $topics ]]; then
    _NAME_set_topics $command
    compadd -- ${=_NAME_topics} ${=_NAME_subcommands}
    return
  fi
  _NAME_set_flags $command
  if [[ $PREFIX == *=* ]]; then
    key=${${PREFIX%%=*}#--}
    compset -P '*='
  elif [[ $words[CURRENT-1] == --?* && $PREFIX != -* && " $_NAME_flags " != *" $words[CURRENT-1] "* ]]; then
    key=${words[CURRENT-1]#--}
  fi
  if [[ -n $key ]]; then
    _NAME_set_values "$command $key"
    _NAME_values_of "$_NAME_values"
    return
  fi
  _NAME_set_options $command
  if [[ $PREFIX == -* ]]; then
    compadd -- ${=_NAME_flags}
    compadd -S '' -- ${${=_NAME_options}/#/--}
    return
  fi
  _NAME_set_word $command
  _NAME_values_of "$_NAME_word"
  compadd -S '' -- ${=_NAME_options}
  [[ -n $_NAME_subcommands ]] && compadd -- ${=_NAME_subcommands}
}
if [[ $funcstack[1] == _NAME ]]; then _NAME "$@"; else compdef _NAME NAME; fi
"""

FISH = r"""# completion of NAME for fish: NAME completion fish > ~/.config/fish/completions/NAME.fish
TABLES
function __NAME_values_of  # the values that $argv[1..-3] allow, for a value that begins as $argv[-2], after $argv[-1]
    set -l before $argv[-1]
    set -l value $argv[-2]
    switch "$argv[1]"
        case %folders
            printf '%s\n' $before(__fish_complete_directories "$value" '')
        case %files
            printf '%s\n' $before(__fish_complete_path "$value")
        case '*'
            set -l items (string match -r '^.*,' -- "$value")
            set -q items[1]; or set items ''
            printf '%s\n' $before$items$argv[1..-3]
    end
end
function __NAME_complete
    set -l words (commandline -opc)[2..-1]
    set -l current (commandline -ct)
    while string match -qr '^-(q|v|-quiet|-verbose)' -- "$words[1]"
        set -e words[1]
    end
    set -l topics
    if test "$words[1]" = help
        set topics 1
        set -e words[1]
    end
    if test (count $words) -eq 0
        printf '%s\n' $__NAME_commands
        test -n "$topics"; or printf '%s\n' help --help --version --quiet --verbose
        return
    end
    set -l command $words[1]
    set -e words[1]
    set -l subcommands (__NAME_subcommands $command)
    if contains -- "$words[1]" $subcommands
        set command "$command $words[1]"
        set -e words[1]
        set subcommands
    end
    if test -n "$topics"; or contains -- --help $words; or contains -- -h $words
        printf '%s\n' (__NAME_topics $command) $subcommands
        return
    end
    set -l flags (__NAME_flags $command)
    if string match -q '*=*' -- "$current"
        set -l parts (string split -m 1 = -- "$current")
        set -l values (__NAME_values "$command" (string replace -r '^--' '' -- $parts[1]))
        test -n "$values"; and __NAME_values_of $values "$parts[2]" "$parts[1]="
        return
    end
    if test (count $words) -gt 0; and string match -qr '^--.' -- "$words[-1]"; and not contains -- "$words[-1]" $flags
        set -l values (__NAME_values "$command" (string replace -r '^--' '' -- $words[-1]))
        test -n "$values"; and __NAME_values_of $values "$current" ''
        return
    end
    set -l options (__NAME_options $command)
    if string match -q -- '-*' "$current"
        printf '%s\n' $flags --$options
        return
    end
    set -l word (__NAME_word $command)
    test -n "$word"; and __NAME_values_of $word "$current" ''
    printf '%s\n' $options $subcommands
end
complete -c NAME -f -a '(__NAME_complete)'
"""
