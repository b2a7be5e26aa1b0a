/**
 * Chat templates: Jinja programs that come with a tokenizer and write a conversation the way the model was trained on. Parsed and run by
 * @huggingface/jinja, in an environment that holds the conversation and nothing of the host. This is the only place where text from a model
 * is evaluated. Variables and whitespace rules as in transformers' `apply_chat_template`. Known difference from Python's Jinja: a boolean that
 * a template prints is written `true`, not `True`.
 * @module
 */
import { Environment, Interpreter, parse, tokenize } from '@huggingface/jinja';
import { isLmqError, LmqError } from '@lmq/tensor';
import { formatDate } from './_strftime.js';
import type { ChatMessage, ChatOpts } from './api.js';

const OP = 'renderChat';

/** Longest template and longest `range()` that are run, longest text, and most steps: far above any real ones, seconds at most. */
const MAX_TEMPLATE = 2 ** 20;
const MAX_RANGE = 100_000;
const MAX_TEXT = 2 ** 24;
const MAX_STEPS = 1_000_000;

export interface RenderChatOpts extends ChatOpts {
  /** Texts of special tokens, e.g. `{ bos_token: '<s>', eos_token: '</s>' }`. Default none. */
  specialTokens?: Readonly<Record<string, string>>;
}

/**
 * Writes a conversation as text.
 * @param template one template, or the list of named ones that tokenizer_config.json may hold
 * @throws LmqError `tokenizer/unsupported` when the template cannot be read, `argument/option` when there is none of that name,
 *   `argument/value` when it refuses the messages or fails on them
 */
export function renderChat(template: unknown, messages: readonly ChatMessage[], opts: RenderChatOpts = {}): string {
  const { addGenerationPrompt = false, tools, variables = {}, specialTokens = {}, now = new Date() } = opts;
  const program = read(choose(template, opts));
  const env = new Environment();
  const all = {
    true: true,
    false: false,
    none: null,
    True: true,
    False: false,
    None: null,
    range,
    raise_exception: refuse,
    strftime_now: (format: unknown) => formatDate(now, String(format)),
    ...specialTokens,
    ...variables,
    messages,
    tools: tools ?? null,
    documents: variables.documents ?? null,
    add_generation_prompt: addGenerationPrompt,
  };
  try {
    for (const [name, value] of Object.entries(all)) env.set(name, value);
    return String(new Bounded(env).run(program).value);
  } catch (cause) {
    if (isLmqError(cause)) throw cause;
    throw new LmqError('argument/value', 'the chat template fails on these messages', {
      op: OP,
      found: reasonOf(cause),
      hint: 'Check that every message has a role and a content, and pass the variables that the template asks for.',
      cause,
    });
  }
}

/**
 * Loops inside loops end, and texts that double do not fill the memory. A step is an evaluated node, a turn of a loop, or an item of a list
 * that is made.
 */
class Bounded extends Interpreter {
  private steps = 0;
  private readonly loopedOver = new WeakSet<object>();

  override evaluate(...args: Parameters<Interpreter['evaluate']>): ReturnType<Interpreter['evaluate']> {
    const [node] = args;
    if (node?.type === 'For') this.loopedOver.add((node as For).iterable);
    const result = super.evaluate(...args);
    const value: unknown = result.value;
    const names = node?.type === 'Identifier' || node?.type === 'MemberExpression'; // the list is there already
    const items = Array.isArray(value) && (!names || this.loopedOver.has(node)) ? value.length : 0;
    this.steps += 1 + items;
    if (this.steps > MAX_STEPS) throw new Error(`more than ${MAX_STEPS} steps`);
    if (typeof value === 'string' && value.length > MAX_TEXT) throw new Error(`a text of more than ${MAX_TEXT} characters`);
    return result;
  }
}

/** A loop of the library's syntax tree, which it does not export. */
type For = Parameters<Interpreter['evaluate']>[0] & { iterable: object };

/** The text of the template to use. */
function choose(template: unknown, { name, tools }: ChatOpts): string {
  if (typeof template === 'string') {
    if (name === undefined || name === 'default') return template;
    throw new LmqError('argument/option', 'the tokenizer has one template without a name', {
      op: OP,
      found: name,
      hint: 'Leave out name.',
    });
  }
  const named = new Map<unknown, unknown>();
  for (const entry of Array.isArray(template) ? template : []) {
    if (typeof entry === 'object' && entry !== null) named.set(entry.name, entry.template);
  }
  const wanted = name ?? (tools && named.has('tool_use') ? 'tool_use' : 'default');
  const found = named.get(wanted);
  if (typeof found === 'string') return found;
  throw new LmqError('argument/option', 'there is no chat template of that name', {
    op: OP,
    expected: [...named.keys()].join(', ') || 'a template',
    found: wanted,
    hint: 'Pass name.',
  });
}

function read(text: string): ReturnType<typeof parse> {
  const unreadable = (found: unknown, cause?: unknown) =>
    new LmqError('tokenizer/unsupported', 'the chat template cannot be read', {
      op: OP,
      found,
      hint: 'Render the conversation yourself and encode the text.',
      cause,
    });
  if (text.length > MAX_TEMPLATE) throw unreadable(`${text.length} characters`);
  try {
    return parse(tokenize(text, { lstrip_blocks: true, trim_blocks: true }));
  } catch (cause) {
    throw unreadable(reasonOf(cause), cause);
  }
}

/** `raise_exception` of templates. */
function refuse(reason: unknown): never {
  throw new LmqError('argument/value', 'the chat template refuses these messages', {
    op: OP,
    found: reason,
    hint: 'Change the messages as the template says: often roles must alternate, beginning with the user.',
  });
}

/** Python's `range`, of at most {@link MAX_RANGE} numbers: a template must not fill the memory. */
function range(first: unknown, end?: unknown, step: unknown = 1): number[] {
  const [from, to, by] = end === undefined ? [0, Number(first), 1] : [Number(first), Number(end), Number(step)];
  const count = Math.max(0, Math.ceil((to - from) / by));
  if (!(count <= MAX_RANGE)) throw new Error(`range of ${count} numbers`);
  return Array.from({ length: count }, (_, i) => from + i * by);
}

function reasonOf(cause: unknown): string {
  return cause instanceof Error ? cause.message : String(cause);
}
