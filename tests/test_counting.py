"""
Counting tokens without a tokenizer: near enough, rather too much, and quickly.

Real counts stand beside each text. They were made with vocabularies that are published:
OpenAI's o200k and cl100k, Google's Gemma 3, Qwen 3, DeepSeek V3 and Anthropic's for
Claude 2. ``docs/token_counts.md`` tells how to repeat that.
"""

from __future__ import annotations

from itertools import pairwise
from statistics import median
from typing import NamedTuple, NoReturn

import msgspec
from twisted.trial.unittest import SynchronousTestCase

from aiclient2api.conversation.counting import estimate, tokens_in
from aiclient2api.conversation.request import (
    Audio,
    Call,
    Conversation,
    File,
    Image,
    Inline,
    OutputFormat,
    Part,
    Reasoning,
    Refusal,
    Remote,
    Result,
    Text,
    Tool,
    Turn,
    Uploaded,
)
from aiclient2api.conversation.seals import Seal

PLAIN, OTHER, APART = "plain", "other", "apart"
"""English and code; other languages; where tokenizers differ by a factor of two."""


class Counts(NamedTuple):
    """What real tokenizers make of a text."""

    o200k: int
    gemma3: int
    qwen3: int
    deepseek3: int
    claude2: int
    cl100k: int

    @property
    def current(self) -> tuple[int, ...]:
        """Those that models of today have."""
        return self[:4]


class Sample(NamedTuple):
    """A text with its real counts, in the order of `Counts`."""

    name: str
    kind: str
    numbers: tuple[int, int, int, int, int, int]
    text: str

    @property
    def counts(self) -> Counts:
        """The numbers by name."""
        return Counts(*self.numbers)


SAMPLES = (
    Sample(
        "greeting",
        PLAIN,
        (21, 24, 21, 22, 24, 21),
        """\
Hello! Could you look at the failing test in tests/test_pool.py and tell me what is wrong?""",
    ),
    Sample(
        "English prose",
        PLAIN,
        (130, 128, 132, 131, 132, 132),
        '''\
The lighthouse keeper had not spoken to anyone since the autumn storms. Every evening he \
climbed
the hundred and twelve steps, trimmed the wick, and watched the ships go by without a word. \
In the
village they said that he counted them; that he kept a ledger in which each mast and each \
funnel
was written down with the hour of its passing. Nobody had ever seen the book. When the \
inspector
finally came, in a boat that smelled of tar and oranges, he found the lamp burning, the brass
polished, and on the table a single sheet of paper: "I have gone to see where they are \
going."''',
    ),
    Sample(
        "Markdown",
        PLAIN,
        (172, 197, 182, 181, 183, 173),
        """\
# Setting up

1. Install the package: `pip install frobnicate`
2. Copy `config.example.toml` to **config.toml** and edit it.
3. Run `frobnicate serve --port 8080`, then open <http://localhost:8080/>.

| Option | Default | Meaning |
| --- | --- | --- |
| `retries` | 3 | How often a request is tried again |
| `timeout` | 30 s | When to give up |

> **Note:** versions before 2.1 read the file from `/etc/frobnicate` only. See
> [the changelog](CHANGELOG.md#210) for what else has changed.

## Known problems

- Symbolic links are not followed.
- On Windows, paths longer than 260 characters fail.
""",
    ),
    Sample(
        "Python",
        PLAIN,
        (199, 219, 199, 200, 199, 199),
        '''\
class RingBuffer(Generic[T]):
    """Keep the last *size* items."""

    def __init__(self, size: int) -> None:
        if size < 1:
            raise ValueError(f"size must be positive, not {size}")
        self._items: list[T | None] = [None] * size
        self._next = 0
        self._full = False

    def append(self, item: T) -> None:
        self._items[self._next] = item
        self._next = (self._next + 1) % len(self._items)
        self._full = self._full or self._next == 0

    def __iter__(self) -> Iterator[T]:
        start = self._next if self._full else 0
        for offset in range(len(self)):
            yield self._items[(start + offset) % len(self._items)]  # type: ignore[misc]
''',
    ),
    Sample(
        "C",
        PLAIN,
        (120, 159, 118, 129, 160, 118),
        """\
static int
queue_push(struct queue *q, const void *item, size_t len)
{
\tstruct node *n;

\tif (q == NULL || len > QUEUE_MAX_ITEM)
\t\treturn -EINVAL;
\tn = malloc(sizeof(*n) + len);
\tif (n == NULL)
\t\treturn -ENOMEM;
\tmemcpy(n->data, item, len);
\tn->len = len;
\tn->next = NULL;
\t*q->tail = n;
\tq->tail = &n->next;
\tq->count++;\t/* never more than QUEUE_MAX_ITEMS */
\treturn 0;
}
""",
    ),
    Sample(
        "TypeScript",
        PLAIN,
        (142, 168, 144, 144, 160, 142),
        """\
export async function fetchPages<T>(client: ApiClient, path: string, limit = 100): \
Promise<T[]> {
  const pages: T[] = [];
  let cursor: string | undefined;
  do {
    const response = await client.get(`${path}?limit=${limit}${cursor ? `&cursor=${cursor}` \
: ''}`);
    if (!response.ok) {
      throw new HttpError(response.status, `GET ${path} failed: ${await response.text()}`);
    }
    const { items, nextCursor } = (await response.json()) as Page<T>;
    pages.push(...items);
    cursor = nextCursor;
  } while (cursor !== undefined);
  return pages;
}
""",
    ),
    Sample(
        "numbered lines",
        PLAIN,
        (187, 192, 195, 172, 165, 186),
        '''\
     1→import logging
     2→
     3→from store.models import Order, OrderLine
     4→from store.prices import PriceList
     5→
     6→log = logging.getLogger(__name__)
     7→
     8→
     9→def total(order: Order, prices: PriceList) -> int:
    10→    """Return what *order* costs, in cents."""
    11→    cents = 0
    12→    for line in order.lines:
    13→        unit = prices.get(line.sku)
    14→        if unit is None:
    15→            log.warning("no price for %s", line.sku)
    16→            continue
    17→        cents += unit * line.quantity
    18→    return cents
''',
    ),
    Sample(
        "tool schema",
        PLAIN,
        (157, 162, 160, 159, 156, 157),
        """\
{"name": "search_files", "description": "Search the contents of files with a regular \
expression. Returns matching lines with their numbers, at most 200 of them.", \
"input_schema": {"type": "object", "properties": {"pattern": {"type": "string", \
"description": "The regular expression to search for"}, "path": {"type": "string", \
"description": "File or directory to search in. Defaults to the current directory."}, \
"ignore_case": {"type": "boolean", "default": false}, "context": {"type": "integer", \
"minimum": 0, "maximum": 20, "description": "Lines to show before and after each match"}}, \
"required": ["pattern"], "additionalProperties": false}}""",
    ),
    Sample(
        "code in JSON",
        PLAIN,
        (111, 124, 107, 116, 123, 107),
        """\
{"file_path": "/home/ada/engine/src/parser.py", "old_string": "    def parse(self, text):\\n \
       tokens = self.lexer.tokenize(text)\\n        return self._expression(tokens)\\n", \
"new_string": "    def parse(self, text: str) -> Node:\\n        tokens = \
list(self.lexer.tokenize(text))\\n        if not tokens:\\n            raise \
ParseError(\\"nothing to parse\\")\\n        return self._expression(tokens)\\n", \
"replace_all": false}""",
    ),
    Sample(
        "log",
        PLAIN,
        (185, 252, 225, 194, 198, 184),
        """\
2031-03-07T08:15:42.118Z INFO  [worker-3] http.server: GET /api/v2/orders/48213 200 in 12.4 \
ms
2031-03-07T08:15:42.297Z WARN  [worker-1] db.pool: connection 7 was idle for 301 s, closing \
it
2031-03-07T08:15:43.002Z ERROR [worker-3] http.server: POST /api/v2/orders 500 in 803.9 ms
Traceback (most recent call last):
  File "/srv/app/orders/views.py", line 88, in create
    order = Order.from_json(request.json())
  File "/srv/app/orders/models.py", line 41, in from_json
    raise KeyError("customer_id")
KeyError: 'customer_id'
""",
    ),
    Sample(
        "diff",
        PLAIN,
        (118, 155, 126, 128, 144, 117),
        """\
diff --git a/src/cache.rs b/src/cache.rs
index 3f1c9a2..b7702de 100644
--- a/src/cache.rs
+++ b/src/cache.rs
@@ -21,9 +21,12 @@ impl Cache {
     pub fn get(&mut self, key: &str) -> Option<&Entry> {
-        self.entries.get(key)
+        let entry = self.entries.get(key)?;
+        if entry.expires <= Instant::now() {
+            return None;
+        }
+        Some(entry)
     }
""",
    ),
    Sample(
        "HTML",
        PLAIN,
        (144, 133, 150, 147, 158, 145),
        """\
<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>Orders</title><link rel="stylesheet" \
href="/static/app.css"></head>
<body>
  <nav class="top"><a href="/">Home</a> <a href="/orders" class="active">Orders</a></nav>
  <table id="orders"><tr><th>Number</th><th>Customer</th><th class="right">Total</th></tr>
  <tr><td>48213</td><td>Grace Hopper</td><td class="right">&euro; 17.50</td></tr></table>
</body>
</html>
""",
    ),
    Sample(
        "listing of files",
        PLAIN,
        (122, 140, 137, 117, 123, 119),
        """\
drwxr-xr-x  5 ada  staff    160 Mar  7 08:12 docs
-rw-r--r--  1 ada  staff   1068 Jan 19 17:40 LICENSE
-rw-r--r--  1 ada  staff   4821 Mar  6 22:03 README.md
drwxr-xr-x 14 ada  staff    448 Mar  7 08:14 src
src/engine/lexer.py
src/engine/parser.py
src/engine/tests/test_parser.py
""",
    ),
    Sample(
        "Chinese",
        OTHER,
        (97, 84, 82, 74, 130, 146),
        """\
昨天下午，我和同事们一起讨论了新系统的设计方案。大家都认为，首先应该把数据库迁移到新的服务器\
上，然后再逐步替换旧的接口。这样做的好处是，用户不会感觉到任何中断，而我们也有足够的时间测试\
每一个模块。不过，预算和人手都比较紧张，所以我们决定把第一阶段的目标定得小一些，只完成登录和\
订单两个部分。""",
    ),
    Sample(
        "Japanese",
        OTHER,
        (106, 70, 86, 92, 150, 145),
        """\
昨日の午後、同僚たちと新しいシステムの設計について話し合いました。まずデータベースを新しいサ\
ーバーに移し、それから古いインターフェースを少しずつ置き換えるべきだという意見でまとまりまし\
た。こうすれば、利用者に気づかれることなく作業を進められ、それぞれのモジュールをテストする時\
間も十分に取れます。""",
    ),
    Sample(
        "Korean",
        OTHER,
        (81, 68, 97, 95, 156, 146),
        """\
어제 오후에 동료들과 함께 새 시스템의 설계에 대해 논의했습니다. 먼저 데이터베이스를 새 서버로\
 옮기고, 그다음에 오래된 인터페이스를 하나씩 바꾸기로 했습니다. 이렇게 하면 사용자는 중단을 \
느끼지 못하고, 우리도 모든 모듈을 시험해 볼 시간을 충분히 가질 수 있습니다.""",
    ),
    Sample(
        "Russian",
        OTHER,
        (69, 65, 86, 82, 146, 118),
        """\
Вчера после обеда мы с коллегами обсуждали устройство новой системы. Все согласились, что \
сначала нужно перенести базу данных на новый сервер, а потом понемногу заменять старые \
интерфейсы. Тогда пользователи не заметят никаких перерывов, а у нас будет достаточно \
времени, чтобы проверить каждую часть.""",
    ),
    Sample(
        "Arabic",
        OTHER,
        (69, 71, 80, 86, 219, 172),
        """\
ناقشنا أمس بعد الظهر مع الزملاء تصميم النظام الجديد. واتفق الجميع على أنه يجب أولا نقل قاعدة \
البيانات إلى الخادم الجديد، ثم استبدال الواجهات القديمة شيئا فشيئا. وبهذه الطريقة لن يلاحظ \
المستخدمون أي انقطاع، وسيكون لدينا وقت كاف لاختبار كل جزء.""",
    ),
    Sample(
        "Hindi",
        APART,
        (54, 46, 161, 105, 190, 170),
        """\
कल दोपहर हमने अपने साथियों के साथ नई प्रणाली की बनावट पर चर्चा की। सब इस बात पर सहमत थे कि \
पहले डेटाबेस को नए सर्वर पर ले जाना चाहिए, और फिर पुराने हिस्सों को धीरे-धीरे बदलना चाहिए।""",
    ),
    Sample(
        "German",
        OTHER,
        (71, 72, 93, 90, 102, 95),
        """\
Gestern Nachmittag haben wir mit den Kolleginnen über den Entwurf des neuen Systems \
gesprochen. Alle waren sich einig, dass zuerst die Datenbank auf den neuen Server umziehen \
muss und die alten Schnittstellen danach Stück für Stück ersetzt werden. So merken die \
Benutzer nichts von einer Unterbrechung, und für jede Änderung bleibt genügend Zeit zum \
Prüfen.""",
    ),
    Sample(
        "numbers",
        APART,
        (79, 128, 128, 79, 64, 79),
        """\
3.14159, 2.71828, 1.41421, 1.73205, 0.57721
1024, 65536, 16777216, 4294967296, 1099511627776
-12.5, 0.003, 99.99, 100.0, 273.15
""",
    ),
    Sample(
        "base64",
        PLAIN,
        (120, 119, 130, 124, 118, 128),
        """\
iVBORw0KGgoAAAANSUhEUgAAAAUAAAAFCAYAAACNbyblAAAAHElEQVQI12P4//8/w38GIAXDIBKE0DHxgljNBAAO9TXL0\
Y4OHwAAAABJRU5ErkJggg3qkZ8vXb1mJt7RwLs0HyUePcTnQdKoG5iDf2Wj9xMuE4aV6hSgYB1pOzlNCrFkA7Ii""",
    ),
    Sample(
        "emoji",
        PLAIN,
        (38, 36, 41, 41, 45, 43),
        """\
Great work, team! 🎉🎉 The release is out ✅ and nobody had to stay up late 😴. Next: fix \
the flaky tests 🔧, then pizza 🍕!""",
    ),
)


def ratios(sample: Sample, counts: tuple[int, ...]) -> list[float]:
    """Return the estimate as a multiple of each count."""
    return [tokens_in(sample.text) / count for count in counts]


def said(*parts: Part, role: str = "user") -> Conversation:
    """Return a conversation of one turn."""
    return Conversation("m", False, turns=(Turn(role, parts),))


class NotWhole(str):
    """A text that must not be looked at as a whole."""

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> NoReturn:
        raise AssertionError("the whole text was looked at")


class TokensInTests(SynchronousTestCase):
    """One text."""

    def test_english_and_code(self) -> None:
        """Prose, code, JSON and logs are counted to within -14 and +30 percent, by any family."""
        for sample in SAMPLES:
            if sample.kind == PLAIN:
                for ratio in ratios(sample, sample.counts):
                    self.assertGreater(ratio, 0.86, sample.name)
                    self.assertLess(ratio, 1.30, sample.name)

    def test_other_languages(self) -> None:
        """Other languages: never far too little for the models of today, at most half too much."""
        for sample in SAMPLES:
            if sample.kind == OTHER:
                for ratio in ratios(sample, sample.counts.current):
                    self.assertGreater(ratio, 0.86, sample.name)
                    self.assertLess(ratio, 1.50, sample.name)

    def test_where_tokenizers_differ(self) -> None:
        """Where families differ by a factor of two and more, the estimate is between them."""
        for sample in SAMPLES:
            if sample.kind == APART:
                shares = ratios(sample, sample.counts.current)
                self.assertLess(min(shares), 1, sample.name)
                self.assertGreater(min(shares), 0.5, sample.name)
                self.assertGreater(max(shares), 1, sample.name)
                self.assertLess(max(shares), 2, sample.name)

    def test_vocabularies_of_yesterday(self) -> None:
        """What older models cut into pieces is counted too low by no more than is documented."""
        for sample in SAMPLES:
            for ratio in ratios(sample, sample.counts):
                self.assertGreater(ratio, 0.40, sample.name)

    def test_rather_too_much(self) -> None:
        """The middle of all errors is a few percent too much."""
        shares = [each for sample in SAMPLES for each in ratios(sample, sample.counts.current)]
        self.assertGreater(median(shares), 1.02)
        self.assertLess(median(shares), 1.08)

    def test_nothing(self) -> None:
        """Nothing is no token, anything is at least one."""
        self.assertEqual(tokens_in(""), 0)
        for text in (" ", "\n", "a", "\u00a0", "\u0e01", "\ud800", "\x00", "\U0010ffff"):
            self.assertGreaterEqual(tokens_in(text), 1, repr(text))

    def test_short_words(self) -> None:
        """Single short words are one token or two."""
        for text in ("a", "the", "Hello", "yes", "def"):
            self.assertIn(tokens_in(text), (1, 2), text)

    def test_nothing_is_free(self) -> None:
        """Whatever is repeated without end, more of it is more tokens."""
        for text in (" ", "\n", "\t", "\r\n", "a", "Z", "7", "-", "}", '"', "_", "é", "ж", "文"):
            self.assertGreater(tokens_in(text * 4000), tokens_in(text * 400), repr(text))
            self.assertGreater(tokens_in(text * 400), 10, repr(text))

    def test_put_together(self) -> None:
        """Two texts are about as many together as apart, and more than either."""
        for one, other in pairwise(SAMPLES):
            apart = tokens_in(one.text), tokens_in(other.text)
            together = tokens_in(one.text + other.text)
            self.assertLess(abs(together - sum(apart)), 4, (one.name, other.name))
            self.assertGreater(together, max(apart))

    def test_it_grows(self) -> None:
        """A text that is written on never becomes noticeably less."""
        for sample in SAMPLES:
            counts = [tokens_in(sample.text[:end]) for end in range(len(sample.text))]
            for before, after in pairwise(counts):
                self.assertGreater(after, before - 3, sample.name)

    def test_the_same_each_time(self) -> None:
        """The same text has the same count."""
        text = "".join(sample.text for sample in SAMPLES) * 20
        self.assertEqual(tokens_in(text), tokens_in(text[:1] + text[1:]))

    def test_long_texts_are_not_read_whole(self) -> None:
        """However long a text is, no more than some slices are looked at."""
        with self.assertRaises(AssertionError):
            tokens_in(NotWhole("short"))
        self.assertGreater(tokens_in(NotWhole("word " * 1_000_000)), 900_000)

    def test_long_texts_are_counted_by_their_slices(self) -> None:
        """A long text of many kinds is as many tokens as its parts, within four percent."""
        mixed = "".join(sample.text * 5 for sample in SAMPLES)
        whole = sum(tokens_in(sample.text * 5) for sample in SAMPLES)
        self.assertGreater(len(mixed), 40_000)
        self.assertLess(abs(tokens_in(mixed) / whole - 1), 0.04)
        self.assertLess(abs(tokens_in(mixed * 10) / (10 * whole) - 1), 0.04)


class EstimateTests(SynchronousTestCase):
    """A whole request."""

    def test_more_than_its_texts(self) -> None:
        """A conversation is more than what is said in it."""
        texts = [sample.text for sample in SAMPLES]
        turns = tuple(
            Turn("assistant" if number % 2 else "user", (Text(text),))
            for number, text in enumerate(texts)
        )
        whole = estimate(Conversation("m", False, system=(Text(texts[0]),), turns=turns))
        parts = sum(map(tokens_in, texts)) + tokens_in(texts[0])
        self.assertGreater(whole, parts)
        self.assertLess(whole, parts + 10 * len(turns))

    def test_a_short_question(self) -> None:
        """A greeting is some ten tokens, not hundreds."""
        self.assertIn(estimate(said(Text("Hello, Claude"))), range(8, 16))
        self.assertLess(estimate(Conversation("m", False)), 10)

    def test_every_part_counts(self) -> None:
        """Whatever a turn holds makes it longer."""
        text = Text("What is in this?")
        least = estimate(said(text))
        picture, paper = Inline("image/png", "AAAA"), Inline("application/pdf", "AAAA")
        parts: tuple[Part, ...] = (
            text,
            Refusal("I would rather not."),
            Reasoning("The user wants to know what is in the picture."),
            Reasoning(seal=Seal("anthropic-messages", "A" * 400, hidden=True)),
            Call("call_1", "look"),
            Result("call_1"),
            Result("call_1", parts=(text,)),
            Image(picture),
            Image(Remote("https://example.org/a.png")),
            Image(Uploaded("openai-responses", "file-1")),
            File(paper),
            File(paper, name="The minutes of the last meeting.pdf"),
            Audio(Inline("audio/wav", "AAAA")),
            Result("call_1", parts=(Image(picture),)),
        )
        counts = [estimate(said(text, part)) for part in parts]
        for part, count in zip(parts, counts, strict=True):
            self.assertGreater(count, least, part)
        self.assertGreater(counts[6], counts[5])
        self.assertGreater(counts[11], counts[10])
        self.assertGreater(counts[13], counts[5] + 80)

    def test_arguments_and_answers(self) -> None:
        """What a tool is called with and what it answers count as any text does."""
        code = next(sample.text for sample in SAMPLES if sample.name == "Python")
        none = estimate(said(Call("1", "run", "{}"), role="assistant"))
        some = estimate(said(Call("1", "run", msgspec.json.encode(code).decode())))
        self.assertGreater(some - none, tokens_in(code))
        answered = estimate(said(Result("1", parts=(Text(code),)))) - estimate(said(Result("1")))
        self.assertLess(abs(answered - tokens_in(code)), 3)

    def test_a_sealed_thought(self) -> None:
        """A thought that only its seal is left of counts by the seal's length, once."""
        seal = Seal("openai-responses", "A" * 1600)
        hidden = estimate(said(Reasoning(seal=seal)))
        self.assertEqual(hidden - estimate(said(Reasoning())), 300)
        thought = Reasoning("Let me see.")
        sealed = Reasoning("Let me see.", seal=seal)
        self.assertEqual(estimate(said(sealed)), estimate(said(thought)))

    def test_tools(self) -> None:
        """Each tool counts with its name, its description and its schema."""
        schema = {"type": "object", "properties": {"city": {"type": "string"}}}
        bare = Tool("function", "weather")
        told = Tool("function", "weather", "Tell the weather of a city.")
        whole = Tool("function", "weather", "Tell the weather of a city.", schema)
        counts = [
            estimate(Conversation("m", False, tools=tools))
            for tools in ((), (bare,), (told,), (whole,), (whole, whole))
        ]
        self.assertGreater(counts[1], counts[0] + 350)
        self.assertGreater(counts[2], counts[1] + 4)
        self.assertGreater(counts[3], counts[2] + 12)
        self.assertLess(counts[4] - counts[3], 60)

    def test_tools_of_one_vendor(self) -> None:
        """A tool's grammar counts, and so does a search that the vendor runs."""
        grammar = {"type": "grammar", "syntax": "lark", "definition": "start: LINE+\n" * 40}
        free = Tool("custom", "apply_patch", "Patch files.", raw={"name": "apply_patch"})
        ruled = Tool("custom", "apply_patch", "Patch files.", raw={"format": grammar})
        least, most = (estimate(Conversation("m", False, tools=(tool,))) for tool in (free, ruled))
        self.assertGreater(most, least + 200)
        for kind in ("web_search", "local_shell"):
            one = estimate(Conversation("m", False, tools=(Tool(kind, kind),)))
            self.assertGreater(one, 380, kind)

    def test_the_form_of_the_answer(self) -> None:
        """A schema that the answer is held to is part of the prompt."""
        schema = {"type": "object", "properties": {"title": {"type": "string"}}}
        free = estimate(said(Text("Go on.")))
        held = Conversation(
            "m", False, turns=(Turn("user", (Text("Go on."),)),), output=OutputFormat(schema)
        )
        self.assertGreater(estimate(held), free + 10)

    def test_odd_values(self) -> None:
        """Numbers that no float holds and halves of characters are counted, not refused."""
        schema = {"maximum": msgspec.Raw(b"1e400"), "description": "\ud83d", "é": None}
        odd = Conversation(
            "m",
            False,
            system=(Text("\udfff"),),
            turns=(Turn("user", (Text(""), Text("\x00\ufeff"))),),
            tools=(Tool("function", "f", parameters=schema),),
        )
        self.assertGreater(estimate(odd), 370)

    def test_long_conversations_are_not_read_whole(self) -> None:
        """Many long texts together are looked at no closer than a single one."""
        text = "word " * 100_000
        turns = tuple(Turn("user", (Text(text),)) for _ in range(10))
        count = estimate(Conversation("m", False, turns=turns))
        self.assertLess(abs(count / (10 * tokens_in(text)) - 1), 0.02)
