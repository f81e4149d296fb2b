"""Texts that show a model what its activations look like: prose of many kinds and languages, code, tables, noise.

Written for this purpose. What matters is breadth: lengths from one character to a paragraph, scripts, punctuation.
"""

PROSE = (
    "The ferry leaves the island at half past six, and anyone who misses it sleeps in the harbour office.",
    "Our refund policy covers damaged goods for thirty days after delivery; open boxes are accepted, opened software is not.",
    "How do I reset the password of an account whose e-mail address no longer exists?",
    "Photosynthesis stores the energy of light in sugars. Water is split, oxygen is set free, and the electrons travel "
    "through a chain of proteins in the membrane before they reduce carbon dioxide.",
    "The central bank left its interest rate unchanged on Thursday, citing slower wage growth and a weaker export market.",
    "Add the onions, stir until they are glassy, then pour in the stock and let everything simmer for twenty minutes.",
    "She closed the piano and listened. Somewhere below a door was opened, and the smell of rain came up the stairs.",
    "Patients with a creatinine clearance below 30 ml/min should receive half the dose, given every twelve hours.",
    "The tenant shall keep the premises in good repair, fair wear and tear excepted, and shall not sublet any part "
    "thereof without the prior written consent of the landlord, which shall not be unreasonably withheld.",
    "Midfielder signs a three-year contract; the club paid 4.5 million and keeps a quarter of any later transfer fee.",
    "A queue is a first-in, first-out structure. Enqueueing appends to the tail, dequeueing removes from the head, and "
    "both take constant time if the structure keeps a pointer to either end.",
    "Error: the connection was closed before the handshake finished. Check the certificate, the clock and the proxy.",
    "Best headphones under 100 euros for running in winter",
    "what is the difference between weather and climate",
    "Dear Ms Okafor, thank you for your letter of 12 March. We have asked the laboratory to repeat the second test and "
    "will write to you again as soon as we hear from them. Yours sincerely, T. Lindqvist",
    "In 1869 the canal was opened to shipping, which cut the voyage from the Gulf to the North Sea by some 8,900 km.",
    "The theorem says that every bounded sequence of real numbers has a convergent subsequence.",
    "Great product, terrible service!!! Waited 3 weeks, nobody answers the phone :( would not buy again",
    "meeting moved to 14:30, room B-204, bring the printed slides pls",
    "Version 2.4 mends a crash when a file name holds a colon, speeds up searching by a third, and drops Windows 7.",
    "To whom much is given, of him shall much be required; but of him who had nothing, nothing could be taken.",
    "Granite weathers slowly. Feldspar turns to clay over thousands of years, while the quartz grains stay behind as sand.",
    "The jury found the defendant not guilty on two counts and could not agree on the third.",
    "Insert the battery with the plus sign facing up. Hold the button for five seconds until the lamp blinks twice.",
    "Voter turnout rose to 71 percent, the highest figure since the constitution was amended.",
    "Neural networks approximate functions by composing linear maps with simple nonlinear ones; their parameters are "
    "found by following the gradient of a loss over many examples, a few at a time.",
    "If x is even then x squared is even, and conversely.",
    "The museum is closed on Mondays. Guided tours in English start at eleven and at three and last fifty minutes.",
    "He that would live in peace and at ease must not speak all he knows nor judge all he sees.",
    "Total assets amounted to 1,204,557 thousand at year end, of which 38 % were financed by equity.",
)

LANGUAGES = (
    "Der Zug nach Hamburg hat heute wegen einer Weichenstörung vierzig Minuten Verspätung.",
    "Nous avons visité le marché couvert, puis nous sommes rentrés à pied le long du canal.",
    "¿Cuánto cuesta el billete de ida y vuelta si compro dos con una semana de antelación?",
    "Il contratto si rinnova ogni anno, salvo disdetta scritta con tre mesi di preavviso.",
    "De gemeente plant dit najaar tweehonderd nieuwe bomen langs de ringweg.",
    "A biblioteca fecha às oito da noite e não abre aos domingos.",
    "Książka leży na stole obok okna, a okulary zostały w kuchni.",
    "Sırada bekleyen herkese sıcak çay ve ekmek dağıtıldı.",
    "Завтра утром обещают сильный снег, поэтому дороги будут скользкими.",
    "Το πλοίο φεύγει στις οκτώ και φτάνει στο νησί το μεσημέρι.",
    "يبدأ الدرس في الساعة التاسعة صباحا وينتهي قبل الظهر.",
    "הספרייה נמצאת מאחורי תחנת הרכבת הישנה.",
    "कल शाम को बाज़ार में बहुत भीड़ थी।",
    "วันนี้อากาศร้อนมาก เราควรดื่มน้ำให้มาก",
    "图书馆每天早上九点开门，星期一休息。",
    "駅前の新しい喫茶店は、朝七時から開いています。",
    "내일 회의는 오후 세 시에 이층 회의실에서 시작합니다.",
    "Chuyến xe cuối cùng rời bến lúc mười giờ tối.",
)

TECHNICAL = (
    "def area(width: float, height: float) -> float:\n    if width < 0 or height < 0:\n        raise ValueError('negative')\n"
    "    return width * height",
    "for (let i = 0; i < rows.length; i++) { total += rows[i].price * rows[i].count; }",
    "SELECT name, count(*) FROM orders JOIN customers USING (customer_id) WHERE paid IS NULL GROUP BY name ORDER BY 2 DESC;",
    "#include <stdio.h>\nint main(void) { printf(\"%d\\n\", 6 * 7); return 0; }",
    "$ tar -xzf archive.tar.gz --strip-components=1 -C /opt/tool && ls -la /opt/tool | head -20",
    '{"id": 17, "tags": ["new", "red"], "price": {"amount": 12.5, "currency": "EUR"}, "stock": null}',
    "<ul class=\"menu\"><li><a href=\"/start\">Start</a></li><li>Help</li></ul>",
    "2024-11-03T08:15:42.118Z WARN worker-3 retrying upload (attempt 2 of 5): connection reset by peer",
    "https://www.example.org/shop/item?id=99812&ref=mail#reviews",
    "+-----------+--------+-------+\n| name      | colour | count |\n+-----------+--------+-------+\n| apple     | red    |    12 |\n"
    "+-----------+--------+-------+",
    "1. Introduction ........ 3\n2. Methods ............. 7\n3. Results ............ 15",
    "E = m c^2; f(x) = (1 / sqrt(2 pi)) * exp(-x^2 / 2); sum_{k=1}^n k = n (n + 1) / 2",
    "ATGGCGTACGCTTGAACCGTTAGC",
    "ISBN 978-0-00-000000-2, vol. 4, no. 11, pp. 201-219, doi:10.1000/xyz123",
    "usage: convert [-h] [--width N] [--quality {low,high}] input [input ...]",
    "192.168.10.254 00:1B:44:11:3A:B7 fe80::1 :: 0x7fff 0b1010 1e-9 3.14159 -273.15",
    "================================ ====== ======\nfield                            type   unit\n"
    "================================ ====== ======",
    "TODO(anna): FIXME!! *** see ticket #4711 *** >>> print('done') ... done",
)

FRAGMENTS = (
    *"aZ7.,;:!?#$%&*+-/=<>@^_~|\"'()[]{}",
    "é",
    "中",
    "я",
    "ß",
    "ま",
    "가",
    "🎉",
    "🏳️‍🌈 👩‍🔬",
    "ok",
    "the",
    "New York",
    "yes!",
    "No. 5",
    "...",
    "!!!",
    "# # # # # # # # # # # # # # # #",
    "- - - - - - - - - - - - - - - - - - - - - - - -",
    "*" * 60,
    "=" * 90,
    "." * 60,
    "_" * 40,
    "0" * 64,
    "1234567890" * 6,
    "ha " * 40,
    "word " * 60,
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "[CLS] [SEP] [MASK] [PAD] [UNK]",
    "“quoted” — ‘dash’ … • § ¶ † ™ ½ № €",
)

CALIBRATION_TEXTS = (*PROSE, *LANGUAGES, *TECHNICAL, *FRAGMENTS)
