"""
Texts with their real counts of tokens, made with vocabularies that are published.

OpenAI's o200k and cl100k, Google's Gemma 3, Qwen 3, DeepSeek V3 and Anthropic's for
Claude 2; ``docs/token_counts.md`` tells how to repeat that.
"""

from __future__ import annotations

from typing import NamedTuple

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
    """A text with its real counts."""

    name: str
    kind: str
    counts: Counts
    text: str


SAMPLES = (
    Sample(
        "greeting",
        PLAIN,
        Counts(21, 24, 21, 22, 24, 21),
        """\
Hello! Could you look at the failing test in tests/test_pool.py and tell me what is wrong?""",
    ),
    Sample(
        "English prose",
        PLAIN,
        Counts(131, 130, 133, 132, 133, 133),
        '''\
The lighthouse keeper had not spoken to anyone since the autumn storms. Every evening he
climbed the hundred and twelve steps, trimmed the wick, and watched the ships go by
without a word. In the village they said that he counted them; that he kept a ledger in
which each mast and each funnel was written down with the hour of its passing. Nobody
had ever seen the book. When the inspector finally came, in a boat that smelled of tar
and oranges, he found the lamp burning, the brass polished, and on the table a single
sheet of paper: "I have gone to see where they are going."''',
    ),
    Sample(
        "Markdown",
        PLAIN,
        Counts(172, 197, 182, 181, 183, 173),
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
        Counts(199, 219, 199, 200, 199, 199),
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
        Counts(120, 159, 118, 129, 160, 118),
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
        Counts(142, 168, 144, 144, 160, 142),
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
        Counts(187, 192, 195, 172, 165, 186),
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
        Counts(157, 162, 160, 159, 156, 157),
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
        Counts(111, 124, 107, 116, 123, 107),
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
        Counts(185, 252, 225, 194, 198, 184),
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
        Counts(118, 155, 126, 128, 144, 117),
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
        Counts(144, 133, 150, 147, 158, 145),
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
        Counts(122, 140, 137, 117, 123, 119),
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
        Counts(97, 84, 82, 74, 130, 146),
        """\
昨天下午，我和同事们一起讨论了新系统的设计方案。大家都认为，首先应该把数据库迁移到新的服务器\
上，然后再逐步替换旧的接口。这样做的好处是，用户不会感觉到任何中断，而我们也有足够的时间测试\
每一个模块。不过，预算和人手都比较紧张，所以我们决定把第一阶段的目标定得小一些，只完成登录和\
订单两个部分。""",
    ),
    Sample(
        "Japanese",
        OTHER,
        Counts(106, 70, 86, 92, 150, 145),
        """\
昨日の午後、同僚たちと新しいシステムの設計について話し合いました。まずデータベースを新しいサ\
ーバーに移し、それから古いインターフェースを少しずつ置き換えるべきだという意見でまとまりまし\
た。こうすれば、利用者に気づかれることなく作業を進められ、それぞれのモジュールをテストする時\
間も十分に取れます。""",
    ),
    Sample(
        "Korean",
        OTHER,
        Counts(81, 68, 97, 95, 156, 146),
        """\
어제 오후에 동료들과 함께 새 시스템의 설계에 대해 논의했습니다. 먼저 데이터베이스를 새 서버로\
 옮기고, 그다음에 오래된 인터페이스를 하나씩 바꾸기로 했습니다. 이렇게 하면 사용자는 중단을 \
느끼지 못하고, 우리도 모든 모듈을 시험해 볼 시간을 충분히 가질 수 있습니다.""",
    ),
    Sample(
        "Russian",
        OTHER,
        Counts(69, 65, 86, 82, 146, 118),
        """\
Вчера после обеда мы с коллегами обсуждали устройство новой системы. Все согласились, что \
сначала нужно перенести базу данных на новый сервер, а потом понемногу заменять старые \
интерфейсы. Тогда пользователи не заметят никаких перерывов, а у нас будет достаточно \
времени, чтобы проверить каждую часть.""",
    ),
    Sample(
        "Arabic",
        OTHER,
        Counts(69, 71, 80, 86, 219, 172),
        """\
ناقشنا أمس بعد الظهر مع الزملاء تصميم النظام الجديد. واتفق الجميع على أنه يجب أولا نقل قاعدة \
البيانات إلى الخادم الجديد، ثم استبدال الواجهات القديمة شيئا فشيئا. وبهذه الطريقة لن يلاحظ \
المستخدمون أي انقطاع، وسيكون لدينا وقت كاف لاختبار كل جزء.""",
    ),
    Sample(
        "Hindi",
        APART,
        Counts(54, 46, 161, 105, 190, 170),
        """\
कल दोपहर हमने अपने साथियों के साथ नई प्रणाली की बनावट पर चर्चा की। सब इस बात पर सहमत थे कि \
पहले डेटाबेस को नए सर्वर पर ले जाना चाहिए, और फिर पुराने हिस्सों को धीरे-धीरे बदलना चाहिए।""",
    ),
    Sample(
        "German",
        OTHER,
        Counts(71, 72, 93, 90, 102, 95),
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
        Counts(79, 128, 128, 79, 64, 79),
        """\
3.14159, 2.71828, 1.41421, 1.73205, 0.57721
1024, 65536, 16777216, 4294967296, 1099511627776
-12.5, 0.003, 99.99, 100.0, 273.15
""",
    ),
    Sample(
        "base64",
        PLAIN,
        Counts(120, 119, 130, 124, 118, 128),
        """\
iVBORw0KGgoAAAANSUhEUgAAAAUAAAAFCAYAAACNbyblAAAAHElEQVQI12P4//8/w38GIAXDIBKE0DHxgljNBAAO9TXL0\
Y4OHwAAAABJRU5ErkJggg3qkZ8vXb1mJt7RwLs0HyUePcTnQdKoG5iDf2Wj9xMuE4aV6hSgYB1pOzlNCrFkA7Ii""",
    ),
    Sample(
        "emoji",
        PLAIN,
        Counts(38, 36, 41, 41, 45, 43),
        """\
Great work, team! 🎉🎉 The release is out ✅ and nobody had to stay up late 😴. Next: fix \
the flaky tests 🔧, then pizza 🍕!""",
    ),
)
