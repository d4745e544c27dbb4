package waf

import "net/http"

// warmHeader is the header of a browser.
var warmHeader = http.Header{
	"User-Agent":                {"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/138.0.0.0 Safari/537.36"},
	"Accept":                    {"text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8"},
	"Accept-Encoding":           {"gzip, deflate, br, zstd"},
	"Accept-Language":           {"en-GB,en;q=0.9,de;q=0.8,fr;q=0.7"},
	"Cookie":                    {"session=8f14e45fceea167a5a36dedd4bea2543; _ga=GA1.2.1893456712.1767225600; theme=dark; consent=%7B%22a%22%3Atrue%7D"},
	"Referer":                   {"https://www.example.com/catalogue/tea?page=3"},
	"Sec-Ch-Ua":                 {`"Chromium";v="138", "Not)A;Brand";v="8", "Google Chrome";v="138"`},
	"Sec-Ch-Ua-Mobile":          {"?0"},
	"Sec-Ch-Ua-Platform":        {`"Windows"`},
	"Sec-Fetch-Dest":            {"document"},
	"Sec-Fetch-Mode":            {"navigate"},
	"Sec-Fetch-Site":            {"same-origin"},
	"Sec-Fetch-User":            {"?1"},
	"Upgrade-Insecure-Requests": {"1"},
	"Priority":                  {"u=0, i"},
	"Cache-Control":             {"max-age=0"},
	"X-Requested-With":          {"XMLHttpRequest"},
	"Authorization":             {"Bearer eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.c2lnbmF0dXJl"},
}

// warmNames are names of fields.
var warmNames = []string{
	"name", "email", "first_name", "lastName", "address[street]", "items[0][sku]", "q", "page", "comment", "created_at", "csrf_token", "quantity",
}

// warmValues are short values of fields.
var warmValues = []string{
	"", "1", "42", "-17", "3.14159", "1e6", "true", "null", "on", "yes", "2026-03-01", "2026-03-01T12:34:56.789Z", "12:34", "01/03/2026",
	"Ada Lovelace", "O. K. Smith-Jones", "ada.lovelace@example.com", "+44 20 7946 0000", "(555) 010-0199", "12 St James Square, London SW1Y 4JH",
	"https://www.example.com/path/to/page?a=1&b=two#top", "/var/folders/photo.png", "C# developer", "50% off", "Q&A", "R&D", "a/b testing", "#hashtag @mention",
	"550e8400-e29b-41d4-a716-446655440000", "d41d8cd98f00b204e9800998ecf8427e", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
	"VGhlIHF1aWNrIGJyb3duIGZveCBqdW1wcyBvdmVyIHRoZSBsYXp5IGRvZw==", "eyJhbGciOiJIUzI1NiJ9.eyJpYXQiOjE1MTYyMzkwMjJ9.x_Vn-3kQ9", "SKU-0001/A", "v1.2.3-rc.4+build.5",
	"192.0.2.1", "2001:db8::1", "#ff8800", "rgba(10, 20, 30, 0.5)", "en-GB", "Europe/Berlin", "image/svg+xml", "18,50 EUR", "$1,234.56", "10 x 20 cm",
	"it is, isn't it?", "\"quoted\", she said", "one; two; three", "[1, 2, 3]", "{\"a\": 1}", "key=value", "a & b | c", "3 < 4 > 2", "<b>bold</b>",
	"select a colour from the list", "drop me a line or two", "update: we are on the way", "please insert the coin", "where is the union meeting?",
}

// warmTexts are texts as people write them.
var warmTexts = []string{
	`Dear Sir or Madam, thank you for your order of 12 March. We have shipped it today with the usual carrier; it should reach you within three to five working days. If it doesn't, please write to us and quote the number above (it's on the invoice, too). Kind regards, the team.`,
	`Great product! I've been using it for about two weeks now, and it works exactly as described: easy to set up, quiet, and the battery lasts all day long. The only thing I'd change is the manual -- it could be clearer about how to update the software. Would buy again & recommend to friends. 5/5`,
	"# Release notes\n\n- Fix: the table no longer jumps when a row is selected (see #1234)\n- New: export as CSV, JSON or PDF\n- Change: the settings are read from the home folder first\n\n1. Download the file\n2. Run the installer\n3. Restart the service\n\n> Note: back up your data before you update.\n\n| a | b |\n|---|---|\n| 1 | 2 |\n",
	`The quick brown fox jumps over the lazy dog while the five boxing wizards jump quickly. When you create an account, select a user name from the list, or enter your own, and delete it whenever you like. Group and order by date, and have a look at the table of values between 10 and 20.`,
	`Sehr geehrte Damen und Herren, können Sie mir bitte mitteilen, wann die Lieferung voraussichtlich ankommt? Über eine Rückmeldung würde ich mich sehr freuen. Größe: 42, Farbe: weiß, Stückzahl: 3. Mit freundlichen Grüßen, Jürgen Müller, Straße des 17. Juni 135, 10623 Berlin`,
	`Bonjour, j'ai reçu ma commande n° 4512 hier après-midi, mais l'article était abîmé. Pourriez-vous m'indiquer la démarche à suivre pour être remboursé ? Merci d'avance, à bientôt. Élodie Lefèvre, 12 rue de l'Église, 75015 Paris`,
	`¿Podría decirme cuándo estará disponible el artículo? Me gustaría comprar dos unidades, una para mí y otra para mi hermano. ¡Muchas gracias! Saludos, José Núñez, Calle de Alcalá 50, 28014 Madrid, España`,
	`Você pode me ajudar com a minha inscrição? Não consigo alterar a palavra-passe. Obrigada. Czy możecie mi pomóc? Dziękuję bardzo. Děkuji za odpověď. Köszönöm szépen a segítséget. Teşekkürler, iyi günler dilerim.`,
	`Здравствуйте! Подскажите, пожалуйста, когда будет доставлен мой заказ? Я оформил его на прошлой неделе. Спасибо за помощь. Καλημέρα σας, ευχαριστώ πολύ για τη βοήθεια.`,
	`您好,请问我的订单什么时候可以送达?我上周已经付款了。谢谢您的帮助!こんにちは、注文した商品はいつ届きますか。よろしくお願いいたします。안녕하세요, 주문한 상품은 언제 도착하나요? 감사합니다.`,
	`مرحبا، متى سيصل طلبي؟ شكرا جزيلا لكم. שלום, מתי תגיע ההזמנה שלי? תודה רבה. नमस्ते, मेरा ऑर्डर कब आएगा? धन्यवाद। สวัสดีครับ ขอบคุณมาก Xin chào, cảm ơn bạn rất nhiều.`,
	"function add(a, b) {\n\treturn a + b;\n}\n\nconst total = price * 1.19; // done\n",
	"id,name,price,stock\n1,\"Tea, green\",4.50,120\n2,Coffee,7.95,80\n3,\"Mug \"\"XL\"\"\",12.00,15\n2026-03-01 12:00:00,INFO,started,pid=4711\n",
	`<p>Hello <strong>world</strong>, this is a <a href="https://www.example.com/page?id=1">link</a> and a list:</p><ul><li>one</li><li>two</li></ul>`,
	"😀 Thanks so much!!! 🎉🎉 See you @ 7pm… that’s “perfect” — can’t wait 👍🏽 ❤️ • €20 ≈ £17 ½ °C ™",
}
