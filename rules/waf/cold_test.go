package waf

import (
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"

	"github.com/moatwaf/moat/filter"
)

// languages are words of everyday texts, in twelve languages and eight scripts.
var languages = []struct{ name, words string }{
	{"English", "the garden was quiet that morning and nobody had opened the window yet because rain kept falling on grey roofs while children walked slowly towards school carrying umbrellas books lunch boxes, it wasn't until noon, when clouds finally parted, that people came outside again to talk about weather work football politics holidays and what they would cook for dinner"},
	{"German", "der Garten lag am frühen Morgen ganz still weil niemand das Fenster geöffnet hatte und der Regen gleichmäßig auf die grauen Dächer fiel während Schülerinnen langsam über die Straße gingen, größere Wolken zogen später weiter, sodass Nachbarn draußen über Wetter Arbeit Fußball Müllabfuhr und das Abendessen sprachen"},
	{"French", "le jardin était silencieux ce matin-là car personne n'avait encore ouvert la fenêtre et la pluie tombait doucement sur les toits gris tandis que des élèves marchaient vers l'école, c'est seulement à midi, après l'orage, qu'on sortit enfin pour bavarder de météo, de travail, d'été et du dîner préparé chez soi"},
	{"Spanish", "aquella mañana el jardín estaba tranquilo porque nadie había abierto todavía la ventana y la lluvia caía despacio sobre los tejados mientras los niños caminaban hacia la escuela, ¿quién habría pensado que al mediodía saldría el sol y todos volverían a hablar del tiempo, del trabajo, de España y de la cena?"},
	{"Polish", "tamtego ranka ogród był cichy ponieważ nikt jeszcze nie otworzył okna a deszcz powoli spadał na szare dachy kiedy dzieci szły do szkoły, dopiero w południe, gdy chmury się rozeszły, ludzie znów wyszli na zewnątrz, żeby porozmawiać o pogodzie, pracy, piłce nożnej i o tym, co zjedzą na kolację"},
	{"Turkish", "o sabah bahçe çok sessizdi çünkü henüz kimse pencereyi açmamıştı ve yağmur gri çatıların üzerine yavaşça yağıyordu, öğleden sonra bulutlar dağılınca insanlar yeniden dışarı çıkıp hava durumu, iş, futbol ve akşam yemeğinde ne pişireceklerini konuşmaya başladılar"},
	{"Vietnamese", "sáng hôm đó khu vườn rất yên tĩnh vì chưa ai mở cửa sổ và mưa vẫn rơi nhẹ trên những mái nhà xám trong khi học sinh đi bộ chậm rãi đến trường, mãi đến trưa, khi mây tan, mọi người mới ra ngoài nói chuyện về thời tiết, công việc, bóng đá và bữa tối"},
	{"Russian", "в то утро в саду было тихо потому что никто ещё не открыл окно и дождь медленно падал на серые крыши пока дети шли в школу с зонтами и книгами, только в полдень, когда тучи разошлись, люди снова вышли на улицу поговорить о погоде, работе, футболе и ужине"},
	{"Greek", "εκείνο το πρωί ο κήπος ήταν ήσυχος γιατί κανείς δεν είχε ανοίξει ακόμη το παράθυρο και η βροχή έπεφτε σιγά στις γκρίζες στέγες ενώ τα παιδιά περπατούσαν προς το σχολείο, το μεσημέρι, όταν άνοιξε ο καιρός, όλοι βγήκαν έξω να μιλήσουν για δουλειά και φαγητό"},
	{"Arabic", "في ذلك الصباح كانت الحديقة هادئة لأن أحدا لم يفتح النافذة بعد وكان المطر يسقط ببطء على الأسطح الرمادية بينما يمشي الأطفال نحو المدرسة، وعند الظهر، حين انقشعت الغيوم، خرج الناس مرة أخرى ليتحدثوا عن الطقس والعمل وكرة القدم والعشاء"},
	{"Chinese", "那天 早上 花园 很 安静 因为 还 没有 人 打开 窗户 雨 慢慢 地 落在 灰色 的 屋顶 上 孩子们 撑着 伞 走向 学校,一直 到 中午 乌云 散去,人们 才 又 出来 谈论 天气 工作 足球 假期 和 晚饭 吃 什么。"},
	{"Hindi", "उस सुबह बगीचा शांत था क्योंकि किसी ने अभी तक खिड़की नहीं खोली थी और बारिश धीरे धीरे धूसर छतों पर गिर रही थी जबकि बच्चे छाते लेकर स्कूल जा रहे थे। दोपहर में जब बादल छँटे तब लोग फिर बाहर आए और मौसम काम खेल और खाने की बातें करने लगे"},
}

// shuffled returns about n bytes of the words of a text in random order, in sentences
// and paragraphs.
func shuffled(r *rand.Rand, words string, n int) string {
	list := strings.Fields(words)
	var b strings.Builder
	for b.Len() < n {
		b.WriteString(list[r.IntN(len(list))])
		switch r.IntN(60) {
		case 0:
			b.WriteString(".\n\n— ") // no rule takes the next word for a command
		case 1, 2, 3, 4, 5, 6:
			b.WriteString(". ")
		case 7, 8, 9:
			b.WriteString(", ")
		default:
			b.WriteByte(' ')
		}
	}
	return strings.ToValidUTF8(b.String()[:n], "")
}

// harmless is a kind of text that nobody would refuse.
type harmless struct {
	name, contentType string
	make              func(r *rand.Rand, n int) string
}

// harmlessKinds returns the kinds: prose in many languages, and what programs send.
func harmlessKinds() []harmless {
	const text = "text/plain; charset=utf-8"
	var kinds []harmless
	for _, l := range languages {
		kinds = append(kinds, harmless{l.name, text, func(r *rand.Rand, n int) string { return shuffled(r, l.words, n) }})
	}
	english := languages[0].words
	lines := func(line func(r *rand.Rand, i int) string) func(*rand.Rand, int) string {
		return func(r *rand.Rand, n int) string {
			var b strings.Builder
			for i := 0; b.Len() < n; i++ {
				b.WriteString(line(r, i))
			}
			return b.String()
		}
	}
	return append(kinds,
		harmless{"a form", formType, func(r *rand.Rand, n int) string {
			return "title=Garden&text=" + strings.NewReplacer(" ", "+", ",", "%2C", ";", "%3B", "'", "%27", "\n", "%0D%0A").Replace(shuffled(r, english, n*9/10))
		}},
		harmless{"JSON", "application/json", func(r *rand.Rand, n int) string {
			items := lines(func(r *rand.Rand, i int) string {
				return fmt.Sprintf(`{"id":%d,"title":%q,"price":%d.%02d,"stock":%t,"tags":["%x"],"created":"2026-03-%02dT12:00:00Z"},`,
					i, shuffled(r, english, 60), r.IntN(500), r.IntN(100), i%2 == 0, r.Uint32(), 1+r.IntN(28))
			})(r, n)
			return `{"items":[` + items[:len(items)-1] + `]}`
		}},
		harmless{"JSON with one text", "application/json", func(r *rand.Rand, n int) string {
			return `{"text":"` + strings.ReplaceAll(shuffled(r, languages[2].words, n), "\n", `\n`) + `"}`
		}},
		harmless{"markdown", text, lines(func(r *rand.Rand, i int) string {
			switch i % 4 {
			case 0:
				return fmt.Sprintf("## %d. %s\n\n", i, shuffled(r, english, 30))
			case 1:
				return fmt.Sprintf("- **%s**: %s\n- [%s](https://www.example.com/%x)\n\n", shuffled(r, english, 12), shuffled(r, english, 70), shuffled(r, english, 14), r.Uint32())
			case 2:
				return fmt.Sprintf("| **%s** | **%s** |\n|---|---|\n| %d | %d |\n\n", shuffled(r, english, 9), shuffled(r, english, 9), r.IntN(99), r.IntN(99))
			}
			return "— " + shuffled(r, english, 300) + "\n\n"
		})},
		harmless{"code", text, lines(func(r *rand.Rand, i int) string {
			return fmt.Sprintf("// step%d adds one to n.\nfunc step%d(n int) int {\n\tif n > %d {\n\t\treturn n + %d\n\t}\n\treturn total[n]\n}\n\n", i, i, r.IntN(100), r.IntN(9))
		})},
		harmless{"base64", text, func(r *rand.Rand, n int) string {
			raw := make([]byte, n*3/4)
			for i := range raw {
				raw[i] = byte(r.Uint32())
			}
			return base64.StdEncoding.EncodeToString(raw)
		}},
		harmless{"CSV", "text/csv", lines(func(r *rand.Rand, i int) string {
			return fmt.Sprintf("%d,%q,%d.%02d,2026-03-%02d,%08x\n", i, shuffled(r, english, 24), r.IntN(900), r.IntN(100), 1+r.IntN(28), r.Uint32())
		})},
	)
}

// TestCold holds that a text of a kind that an engine has never read gets the answer
// that it gets ever after, and that the plain engine gives: no automaton has to be
// there for it. (100 KB of base64 or markdown may meet the budget until something of the
// kind was read.)
func TestCold(t *testing.T) {
	if raceSlows > 1 {
		t.Skip("minutes of CPU")
	}
	sizes := []int{100_000, 20_000, 4_000}
	plain := readyStage(t)
	for n, kind := range harmlessKinds() {
		for _, size := range sizes {
			if testing.Short() && size != sizes[n%len(sizes)] {
				continue
			}
			if n >= len(languages) {
				size = min(size, 50_000)
			}
			t.Run(fmt.Sprintf("%s/%d", kind.name, size), func(t *testing.T) {
				body := kind.make(seeded(size), size)
				ask := func(s *Stage) Inspection {
					hr := newHTTP(http.MethodPost, "/notes", body, "Content-Type: "+kind.contentType)
					r := filter.NewRequest(hr, testTime)
					defer r.Release()
					i, err := s.Inspect(r)
					if err != nil {
						t.Fatal(err)
					}
					return i
				}
				fast := mustNew(t, Config{Fast: true})
				answer := func(i Inspection) string {
					return fmt.Sprint(i.Decision.Verdict, i.Decision.Reason, i.Decision.Rule, i.Score, i.Rules)
				}
				start := processCPU(t)
				cold := ask(fast)
				took := processCPU(t) - start
				first, second, want := answer(cold), answer(ask(fast)), answer(ask(plain))
				t.Logf("%v of CPU, %+v %s", took, cold.Judged, first)
				if first != second || first != want {
					t.Errorf("first %s, then %s; plain %s", first, second, want)
				}
			})
		}
	}
}

// seeded returns a source of its own for each size.
func seeded(size int) *rand.Rand { return rand.New(rand.NewPCG(uint64(size), 7)) }
