"""Words for what a score holds: ways to name instruments, the kinds they belong to, moods, speeds, keys, and the articles before them.

Every entry is true of every note of its instrument. An instrument's names carry their article ("a violin", "drums"), for that is how
a noun shows its number.
"""

import hashlib
import re
from collections.abc import Sequence

HELD_OUT_SHARE = 0.2  # of all wordings, chosen by their hash: training never meets them
# names that need no article and take a plural verb end in s; "brass" and "percussion" are singular
INSTRUMENT_NAMES: dict[str, tuple[str, ...]] = {
    "piano": ("a piano", "a grand piano", "an acoustic piano"),
    "bright piano": ("a bright piano", "a piano", "a crisp-sounding piano"),
    "honky-tonk piano": ("a honky-tonk piano", "an out-of-tune saloon piano", "a detuned honky-tonk piano"),
    "electric piano": ("an electric piano", "an e-piano", "a mellow electric piano"),
    "FM electric piano": ("an FM electric piano", "a digital electric piano", "a glassy electric piano"),
    "harpsichord": ("a harpsichord", "a plucked harpsichord"),
    "clavinet": ("a clavinet", "a funky clavinet"),
    "celesta": ("a celesta", "a delicate celesta"),
    "glockenspiel": ("a glockenspiel", "a bright glockenspiel"),
    "music box": ("a music box", "a tinkling music box"),
    "vibraphone": ("a vibraphone", "vibes", "a mellow vibraphone"),
    "marimba": ("a marimba", "a woody marimba"),
    "xylophone": ("a xylophone", "a wooden xylophone"),
    "tubular bells": ("tubular bells", "church-like bells", "chimes"),
    "dulcimer": ("a hammered dulcimer", "a dulcimer"),
    "hammond organ": ("a Hammond organ", "an electric organ", "a drawbar organ"),
    "rock organ": ("a rock organ", "an electric organ", "a gritty organ"),
    "church organ": ("a church organ", "a pipe organ", "a grand pipe organ"),
    "accordion": ("an accordion", "a wheezing accordion"),
    "harmonica": ("a harmonica", "a blues harp", "a mouth organ"),
    "bandoneon": ("a bandoneon", "a tango accordion"),
    "nylon guitar": ("a nylon-string guitar", "a classical guitar", "an acoustic guitar with nylon strings"),
    "acoustic guitar": ("an acoustic guitar", "a steel-string guitar", "a steel-string acoustic guitar"),
    "jazz guitar": ("a jazz guitar", "a mellow jazz guitar", "a warm electric guitar"),
    "clean electric guitar": ("a clean electric guitar", "an electric guitar", "an undistorted electric guitar"),
    "muted electric guitar": ("a muted electric guitar", "a palm-muted guitar", "a palm-muted electric guitar"),
    "overdriven guitar": ("an overdriven guitar", "an electric guitar", "a crunchy electric guitar", "an overdriven electric guitar"),
    "distorted guitar": ("a distorted guitar", "a distorted electric guitar", "an electric guitar", "a heavy electric guitar"),
    "double bass": ("a double bass", "an upright bass", "an acoustic bass"),
    "electric bass": ("a bass guitar", "an electric bass", "an e-bass"),
    "picked bass": ("a bass guitar", "a picked bass guitar", "an electric bass played with a pick"),
    "fretless bass": ("a fretless bass", "a smooth fretless bass guitar"),
    "slap bass": ("a slap bass", "a slapped bass guitar", "a popping slap bass"),
    "synth bass": ("a synth bass", "a bass synthesizer", "a synthesized bass"),
    "rubber synth bass": ("a synth bass", "a rubbery synth bass", "a bouncy synthesizer bass"),
    "violin": ("a violin", "a bowed violin"),
    "viola": ("a viola", "a dusky viola"),
    "cello": ("a cello", "a deep cello", "a bowed cello"),
    "contrabass": ("a bowed double bass", "a contrabass", "an orchestral double bass"),
    "tremolo strings": ("tremolo strings", "trembling strings", "strings playing tremolo"),
    "pizzicato strings": ("pizzicato strings", "plucked strings", "strings playing pizzicato"),
    "harp": ("a harp", "a plucked harp", "a concert harp"),
    "timpani": ("timpani", "kettledrums", "orchestral timpani"),
    "string section": ("strings", "a string section", "a string orchestra", "orchestral strings"),
    "slow strings": ("slow strings", "soft strings", "a string section", "strings with a slow attack"),
    "synth strings": ("synth strings", "synthetic strings", "a string synthesizer"),
    "choir": ("a choir", "a wordless choir", "choral voices"),
    "synth voice": ("a synth voice", "a synthetic voice", "a voice-like synth"),
    "trumpet": ("a trumpet", "a bright trumpet"),
    "trombone": ("a trombone", "a brassy trombone"),
    "tuba": ("a tuba", "a deep tuba"),
    "muted trumpet": ("a muted trumpet", "a trumpet with a mute"),
    "french horn": ("a French horn", "a horn", "a noble French horn"),
    "brass section": ("a brass section", "brass", "a horn section"),
    "synth brass": ("synth brass", "a brassy synth", "synthesizer brass"),
    "soprano sax": ("a soprano sax", "a soprano saxophone", "a saxophone"),
    "alto sax": ("an alto sax", "an alto saxophone", "a saxophone"),
    "tenor sax": ("a tenor sax", "a tenor saxophone", "a saxophone", "a smoky tenor sax"),
    "oboe": ("an oboe", "a plaintive oboe"),
    "english horn": ("an English horn", "a cor anglais"),
    "bassoon": ("a bassoon", "a reedy bassoon"),
    "clarinet": ("a clarinet", "a woody clarinet"),
    "piccolo": ("a piccolo", "a shrill piccolo"),
    "flute": ("a flute", "a concert flute", "an airy flute"),
    "recorder": ("a recorder", "a wooden recorder"),
    "pan flute": ("a pan flute", "panpipes", "a breathy pan flute"),
    "shakuhachi": ("a shakuhachi", "a bamboo flute", "a breathy bamboo flute"),
    "tin whistle": ("a tin whistle", "a penny whistle", "an Irish whistle"),
    "ocarina": ("an ocarina", "a clay ocarina"),
    "square lead": ("a square-wave synth", "a chip-style synth", "a square-wave synthesizer", "a bleepy square lead"),
    "saw lead": ("a sawtooth synth", "a buzzing synth", "a bright synthesizer", "a saw-wave synth"),
    "calliope lead": ("a calliope synth", "an airy synth", "a flute-like synth"),
    "charang lead": ("a gritty synth", "a guitar-like synth", "a distorted synthesizer"),
    "fifths lead": ("a synth in parallel fifths", "a synth stacked in fifths"),
    "warm pad": ("a warm synth pad", "a warm pad", "a mellow synthesizer pad"),
    "polysynth": ("a polysynth", "a polyphonic synth", "an analogue-style polysynth"),
    "new age pad": ("a shimmering synth pad", "a new age pad", "an airy synth pad"),
    "bowed pad": ("a bowed-glass pad", "a glassy synth pad", "a synth pad"),
    "halo pad": ("a choral synth pad", "a halo-like synth pad", "an ethereal synth pad"),
    "sweep pad": ("a sweeping synth pad", "a slowly sweeping pad", "a filtered synth pad"),
    "crystal synth": ("a crystalline synth", "a bell-like synth", "a glittering synth"),
    "sitar": ("a sitar", "a twanging sitar"),
    "banjo": ("a banjo", "a twangy banjo"),
    "shamisen": ("a shamisen", "a Japanese shamisen"),
    "koto": ("a koto", "a Japanese koto"),
    "kalimba": ("a kalimba", "a thumb piano", "an African thumb piano"),
    "bagpipes": ("bagpipes", "droning bagpipes"),
    "fiddle": ("a fiddle", "a folk fiddle"),
    "steel drums": ("steel drums", "steel pans", "Caribbean steel drums"),
    "taiko drums": ("taiko drums", "big taiko drums", "Japanese drums"),
    "drum kit": ("drums", "a drum kit", "acoustic drums", "an acoustic drum set"),
    "room drum kit": ("drums", "roomy drums", "an acoustic drum kit"),
    "rock drum kit": ("drums", "rock drums", "a rock drum kit", "hard-hitting drums"),
    "electronic drum kit": ("electronic drums", "an electronic drum kit", "programmed drums", "digital drums"),
    "808 drum machine": ("an 808 drum machine", "a drum machine", "808 drums", "electronic drums"),
    "jazz drum kit": ("jazz drums", "drums", "a jazz drum kit"),
    "brushed drums": ("brushed drums", "drums played with brushes", "soft brushed drums"),
    "orchestral drums": ("orchestral drums", "orchestral percussion", "concert drums"),
    "congas": ("congas", "conga drums"),
    "bongos": ("bongos", "bongo drums"),
    "timbales": ("timbales", "ringing timbales"),
    "agogo bells": ("agogo bells", "agogos"),
    "shaker": ("a shaker", "a steady shaker"),
    "tambourine": ("a tambourine", "a jingling tambourine"),
    "hand claps": ("hand claps", "claps", "clapping hands"),
    "castanets": ("castanets", "clicking castanets"),
    "claves": ("claves", "clicking claves"),
    "cowbell": ("a cowbell", "a clanking cowbell"),
    "triangle": ("a triangle", "a ringing triangle"),
    "woodblock": ("a woodblock", "a wood block"),
    "reverse cymbal": ("a reversed cymbal", "a reverse cymbal swell"),
    "electric grand piano": ("an electric grand piano", "an electric grand", "an amplified grand piano"),
    "percussive organ": ("a percussive organ", "a clicking electric organ", "an electric organ"),
    "reed organ": ("a reed organ", "a harmonium", "a pump organ"),
    "guitar harmonics": ("guitar harmonics", "chiming guitar harmonics", "flageolet tones on a guitar"),
    "thumbed slap bass": ("a slap bass", "a thumb-slapped bass guitar", "a slapped bass"),
    "soft synth strings": ("soft synth strings", "synth strings", "synthetic strings"),
    "voice oohs": ("voices singing ooh", "a wordless choir", "soft wordless voices"),
    "orchestra hit": ("orchestra hits", "a sampled orchestra hit", "orchestral stabs"),
    "soft synth brass": ("soft synth brass", "a mellow brassy synth", "synthesizer brass"),
    "baritone sax": ("a baritone sax", "a baritone saxophone", "a saxophone"),
    "blown bottle": ("a blown bottle", "a bottle blown like a flute"),
    "chiff lead": ("a chiffy synth", "a breathy synth", "a puffing synth"),
    "voice lead": ("a voice-like synth lead", "a synthetic voice", "a singing synth"),
    "bass and lead synth": ("a fat synth", "a thick synthesizer", "a heavy synth lead"),
    "choir pad": ("a choir pad", "a choir-like synth pad", "synthetic choir voices"),
    "metallic pad": ("a metallic pad", "a metallic synth pad"),
    "rain synth": ("a rain-like synth", "a dripping synth", "a tinkling synth"),
    "soundtrack pad": ("a wide synth pad", "a soundtrack-like synth pad", "a synth pad"),
    "atmosphere synth": ("an atmospheric synth", "a plucked synth", "a guitar-like synth with a pad behind it"),
    "brightness synth": ("a bright synth", "a brightly ringing synth"),
    "goblin synth": ("an eerie synth", "a ghostly synth", "a warbling synth"),
    "echo synth": ("an echoing synth", "a synth with echoes"),
    "sci-fi synth": ("a sci-fi synth", "a spacey synth", "a science-fiction synth"),
    "shanai": ("a shanai", "a shehnai", "an Indian oboe"),
    "tinkle bell": ("a tinkling bell", "little bells", "small tinkling bells"),
    "tuned agogo": ("agogo bells", "metal agogo bells"),
    "tuned woodblock": ("woodblocks", "knocking woodblocks"),
    "tuned toms": ("tuned toms", "melodic toms"),
    "synth drum": ("a synth drum", "synthetic toms", "electronic toms"),
    "fret noise": ("guitar fret noise", "squeaking guitar strings"),
    "breath noise": ("breath noise", "a breathing noise"),
    "seashore": ("the sound of the sea", "the sound of waves"),
    "birdsong": ("birdsong", "chirping birds"),
    "telephone": ("a ringing telephone", "a telephone"),
    "helicopter": ("a helicopter", "the sound of a helicopter"),
    "applause": ("applause", "a clapping audience"),
    "gunshot": ("a gunshot", "bursts of noise like gunshots"),
    "vibraslap": ("a vibraslap", "a rattling vibraslap"),
    "cabasa": ("a cabasa", "a scraping cabasa"),
    "referee whistle": ("a whistle", "a samba whistle"),
    "guiro": ("a guiro", "a scraped guiro"),
    "cuica": ("a cuica", "a squeaking cuica"),
    "jingle bells": ("jingle bells", "sleigh bells"),
    "bell tree": ("a bell tree", "a glittering bell tree"),
    "surdo": ("a surdo", "a deep surdo drum"),
}  # fmt: skip
# what an instrument of a family sounds like by nature; put before some of its names
SOUNDS: dict[str, tuple[str, ...]] = {
    "piano": ("resonant", "ringing", "percussive"), "keyboard": ("plinking", "percussive"), "organ": ("droning", "reedy", "full-bodied", "humming"), "mallets": ("ringing", "chiming", "resonating", "pinging"),
    "guitar": ("twanging", "ringing", "picked"), "bass": ("deep", "low", "groovy", "round", "booming", "thick", "rumbling"), "strings": ("bowed", "singing", "rich"), "voices": ("airy", "human-sounding", "floating"),
    "brass": ("brassy", "blaring", "ringing", "bold"), "reeds": ("reedy", "nasal", "expressive"), "winds": ("breathy", "airy", "whistling"), "synth": ("electronic", "synthetic", "digital", "buzzy"),
    "plucked": ("plucked", "twangy", "bright"), "drums": ("punchy", "steady", "thumping", "tight", "snappy"), "percussion": ("rattling", "dry", "crisp", "clattering"),
}  # fmt: skip
SOUNDS |= {
    "distorted guitar": ("roaring", "fuzzy", "aggressive", "chugging", "screaming", "gritty"), "overdriven guitar": ("crunchy", "gritty", "biting", "growling"), "nylon guitar": ("warm", "fingerpicked", "soft", "mellow"),
    "acoustic guitar": ("strumming", "bright", "jangling"), "clean electric guitar": ("jangly", "twangy", "clear", "shimmering"), "jazz guitar": ("mellow", "smooth", "warm"), "muted electric guitar": ("chugging", "choppy", "dry"),
    "pizzicato strings": ("plucked", "bouncing"), "string section": ("lush", "rich", "orchestral", "sweeping"), "slow strings": ("lush", "swelling"), "tremolo strings": ("shivering", "shimmering"), "cello": ("deep", "dark", "rich"),
    "warm pad": ("mellow", "wide"), "sweep pad": ("wide", "swirling"), "new age pad": ("wide", "glittering"), "bowed pad": ("glassy", "wide", "hovering"), "halo pad": ("wide", "ethereal"), "square lead": ("beeping", "retro", "8-bit"),
    "saw lead": ("buzzing", "sharp", "bright"), "crystal synth": ("sparkling", "glassy"), "music box": ("delicate", "chiming"), "church organ": ("massive", "solemn", "mighty"), "harp": ("rippling", "delicate"), "tuba": ("deep", "fat", "low"),
    "808 drum machine": ("booming", "clicking", "electronic"), "electronic drum kit": ("punchy", "programmed", "crisp"), "brushed drums": ("soft", "gentle"), "rock drum kit": ("loud", "pounding", "energetic"),
    "orchestral drums": ("booming", "thundering"), "taiko drums": ("thundering", "massive"), "timpani": ("rolling", "booming"), "shaker": ("shimmering", "steady"), "triangle": ("shimmering", "ringing"),
    "tambourine": ("jingling", "shimmering"), "synth bass": ("fat", "deep", "pulsing"), "double bass": ("woody", "deep", "round", "mellow"), "vibraphone": ("mellow", "shimmering"), "bagpipes": ("droning", "shrill"),
    "french horn": ("noble", "mellow", "rounded"), "muted trumpet": ("nasal", "muffled"), "flute": ("breathy", "airy", "gentle"), "electric piano": ("mellow", "bell-like", "warm"), "hammond organ": ("swirling", "warm"),
}  # fmt: skip
# a wider name, and what it is true of
KINDS: dict[str, tuple[str, ...]] = {
    "a keyboard instrument": ("piano", "bright piano", "honky-tonk piano", "electric piano", "FM electric piano", "harpsichord", "celesta", "church organ", "hammond organ"),
    "an electric guitar": ("clean electric guitar", "muted electric guitar", "overdriven guitar", "distorted guitar", "jazz guitar"),
    "a guitar": ("nylon guitar", "acoustic guitar", "clean electric guitar", "jazz guitar", "overdriven guitar", "distorted guitar"),
    "a plucked string instrument": ("nylon guitar", "acoustic guitar", "harp", "sitar", "banjo", "shamisen", "koto", "harpsichord"),
    "a bowed string instrument": ("violin", "viola", "cello", "fiddle", "contrabass"),
    "a string instrument": ("violin", "viola", "cello", "fiddle", "harp", "koto", "sitar", "shamisen"),
    "a brass instrument": ("trumpet", "trombone", "tuba", "french horn", "muted trumpet"),
    "a woodwind instrument": ("flute", "piccolo", "recorder", "clarinet", "oboe", "bassoon", "english horn", "tin whistle", "soprano sax", "alto sax", "tenor sax"),
    "a woodwind": ("flute", "piccolo", "recorder", "clarinet", "oboe", "bassoon", "english horn"),
    "a wind instrument": ("flute", "pan flute", "shakuhachi", "ocarina", "recorder", "tin whistle", "clarinet", "trumpet", "oboe", "alto sax"),
    "a mallet instrument": ("vibraphone", "marimba", "xylophone", "glockenspiel"),
    "a synthesizer": ("square lead", "saw lead", "calliope lead", "charang lead", "polysynth", "warm pad", "new age pad", "sweep pad", "crystal synth", "synth brass", "synth strings"),
    "a synth": ("square lead", "saw lead", "charang lead", "polysynth", "crystal synth", "calliope lead", "synth brass"),
    "an organ": ("hammond organ", "rock organ", "church organ"),
    "a sax": ("soprano sax", "alto sax", "tenor sax"),
}  # fmt: skip
# Ways to say a mood of the style table; moods that are not here are said as they stand.
MOODS: dict[str, tuple[str, ...]] = {
    "calm": ("calm", "calming", "tranquil", "placid", "restful"), "peaceful": ("peaceful", "serene", "tranquil"), "relaxing": ("relaxing", "soothing", "laid-back"),
    "relaxed": ("relaxed", "easygoing", "laid-back", "unhurried"), "mellow": ("mellow", "smooth", "soft-edged"), "chill": ("chill", "chilled-out", "laid-back"),
    "dreamy": ("dreamy", "floating", "ethereal"), "ethereal": ("ethereal", "otherworldly", "airy"), "meditative": ("meditative", "contemplative", "reflective"),
    "gentle": ("gentle", "tender", "soft"), "tender": ("tender", "gentle", "heartfelt"), "warm": ("warm", "cosy", "mellow"), "romantic": ("romantic", "amorous", "heartfelt"),
    "nostalgic": ("nostalgic", "wistful", "bittersweet"), "sad": ("sad", "melancholic", "sorrowful", "mournful"), "melancholic": ("melancholic", "melancholy", "wistful", "sad"),
    "emotional": ("emotional", "moving", "heartfelt", "touching"), "happy": ("happy", "cheerful", "joyful", "sunny"), "cheerful": ("cheerful", "merry", "happy", "good-humoured"),
    "joyful": ("joyful", "jubilant", "happy"), "playful": ("playful", "cheeky", "light-hearted"), "fun": ("fun", "playful", "lively"), "upbeat": ("upbeat", "positive", "feel-good"),
    "uplifting": ("uplifting", "inspiring", "hopeful"), "hopeful": ("hopeful", "optimistic", "uplifting"), "energetic": ("energetic", "lively", "high-energy", "spirited"),
    "lively": ("lively", "vibrant", "spirited", "animated"), "exciting": ("exciting", "thrilling", "exhilarating"), "driving": ("driving", "propulsive", "relentless"),
    "intense": ("intense", "fierce", "powerful"), "aggressive": ("aggressive", "fierce", "brutal"), "powerful": ("powerful", "mighty", "forceful"), "heavy": ("heavy", "weighty", "hard-hitting"),
    "angry": ("angry", "furious", "raging"), "dark": ("dark", "gloomy", "sinister"), "ominous": ("ominous", "foreboding", "menacing"), "tense": ("tense", "suspenseful", "nervous"),
    "suspenseful": ("suspenseful", "tense", "nail-biting"), "mysterious": ("mysterious", "enigmatic", "secretive"), "eerie": ("eerie", "spooky", "creepy"), "spooky": ("spooky", "creepy", "haunting"),
    "epic": ("epic", "grand", "cinematic", "larger-than-life"), "heroic": ("heroic", "triumphant", "valiant"), "majestic": ("majestic", "stately", "regal"), "dramatic": ("dramatic", "theatrical", "stirring"),
    "triumphant": ("triumphant", "victorious", "glorious"), "solemn": ("solemn", "grave", "reverent"), "elegant": ("elegant", "graceful", "refined"), "graceful": ("graceful", "elegant", "flowing"),
    "groovy": ("groovy", "funky", "infectious"), "funky": ("funky", "groovy", "danceable"), "danceable": ("danceable", "dance-ready", "toe-tapping"), "cool": ("cool", "suave", "stylish"),
    "smooth": ("smooth", "silky", "easy-flowing"), "sultry": ("sultry", "sensual", "steamy"), "passionate": ("passionate", "fiery", "impassioned"), "soulful": ("soulful", "expressive", "heartfelt"),
    "hypnotic": ("hypnotic", "mesmerizing", "trance-like"), "futuristic": ("futuristic", "space-age", "sci-fi-like"), "retro": ("retro", "old-school", "nostalgic"), "quirky": ("quirky", "odd", "whimsical"),
    "whimsical": ("whimsical", "fanciful", "playful"), "catchy": ("catchy", "memorable", "hummable"), "festive": ("festive", "celebratory", "merry"), "tropical": ("tropical", "sun-soaked", "beachy"),
    "sunny": ("sunny", "bright", "summery"), "carefree": ("carefree", "easygoing", "breezy"), "adventurous": ("adventurous", "swashbuckling", "daring"), "spiritual": ("spiritual", "devotional", "sacred"),
    "innocent": ("innocent", "childlike", "sweet"), "sweet": ("sweet", "charming", "endearing"), "bright": ("bright", "radiant", "sparkling"), "rebellious": ("rebellious", "defiant", "rowdy"), "raw": ("raw", "gritty", "unpolished"),
    "lonely": ("lonely", "desolate", "forlorn"), "rustic": ("rustic", "earthy", "homely"), "bouncy": ("bouncy", "springy", "perky"), "proud": ("proud", "stately", "dignified"), "atmospheric": ("atmospheric", "immersive", "spacious"),
    "ancient": ("ancient", "archaic"), "bittersweet": ("bittersweet", "poignant"), "charming": ("charming", "delightful"), "cheeky": ("cheeky", "mischievous"), "cinematic": ("cinematic", "film-like"),
    "cold": ("cold", "icy", "bleak"), "colourful": ("colourful", "vivid"), "confident": ("confident", "assured"), "contemplative": ("contemplative", "reflective", "thoughtful"), "cosy": ("cosy", "homely", "warm"),
    "crushing": ("crushing", "massive"), "curious": ("curious", "inquisitive"), "delicate": ("delicate", "fragile", "dainty"), "euphoric": ("euphoric", "ecstatic", "uplifting"), "exotic": ("exotic", "faraway-sounding"),
    "expressive": ("expressive", "emotive"), "fiery": ("fiery", "hot-blooded", "passionate"), "flowing": ("flowing", "fluid"), "frantic": ("frantic", "hectic", "breathless"), "furious": ("furious", "raging", "ferocious"),
    "glamorous": ("glamorous", "glitzy"), "gloomy": ("gloomy", "bleak", "sombre"), "grand": ("grand", "imposing"), "gritty": ("gritty", "rough", "dirty"), "hazy": ("hazy", "blurred", "smoky"), "heartfelt": ("heartfelt", "sincere"),
    "inspiring": ("inspiring", "motivational", "uplifting"), "intimate": ("intimate", "up-close"), "introspective": ("introspective", "pensive"), "jaunty": ("jaunty", "perky"), "jolly": ("jolly", "merry", "cheerful"),
    "laid-back": ("laid-back", "easygoing", "relaxed"), "light": ("light", "airy", "light-hearted"), "magical": ("magical", "enchanting", "fairy-like"), "mechanical": ("mechanical", "robotic", "machine-like"), "menacing": ("menacing", "threatening"),
    "merry": ("merry", "cheerful", "jolly"), "moody": ("brooding", "broody", "smouldering"), "noble": ("noble", "dignified", "stately"), "old-fashioned": ("old-fashioned", "old-timey", "vintage"), "optimistic": ("optimistic", "hopeful", "positive"),
    "positive": ("positive", "feel-good", "optimistic"), "quaint": ("quaint", "old-worldly"), "refined": ("refined", "polished"), "relentless": ("relentless", "unstoppable"), "rousing": ("rousing", "stirring"), "sensual": ("sensual", "sultry"),
    "serene": ("serene", "peaceful", "tranquil"), "silly": ("silly", "goofy", "comical"), "sleepy": ("sleepy", "drowsy"), "sneaky": ("sneaky", "stealthy"), "soft": ("soft", "gentle"), "soothing": ("soothing", "calming", "comforting"),
    "sophisticated": ("sophisticated", "classy"), "spacious": ("spacious", "expansive", "roomy"), "spirited": ("spirited", "lively", "vivacious"), "sweeping": ("sweeping", "soaring"), "thoughtful": ("thoughtful", "pensive"),
    "unsettling": ("unsettling", "disturbing", "uneasy"), "urgent": ("urgent", "pressing"), "vast": ("vast", "immense", "boundless"), "wistful": ("wistful", "nostalgic", "yearning"), "wondrous": ("wondrous", "wide-eyed"), "youthful": ("youthful", "fresh"),
}  # fmt: skip


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# moods that a window must not contradict: which speeds, keys and densities go against them
CALM = _words(
    "calm peaceful relaxing relaxed mellow chill dreamy meditative gentle tender sleepy soothing serene tranquil contemplative laid-back cosy intimate quiet drowsy weightless romantic"
)
LIVELY = _words(
    "energetic lively exciting driving intense aggressive frantic hectic danceable bouncy upbeat rousing relentless urgent pumping furious breathless spirited feverish"
)
HAPPY = _words(
    "happy cheerful joyful sunny festive carefree merry triumphant upbeat euphoric jolly bright celebratory optimistic"
)
SAD = _words(
    "sad melancholic mournful gloomy lonely sorrowful dark ominous tense suspenseful eerie spooky angry menacing tragic sinister brooding haunted cold wistful moody"
)
MEASURED = _words(
    "fast fast-paced slow sparse busy loud quiet bass-heavy quick up-tempo uptempo dense acoustic electronic repetitive brisk percussive swinging brassy marching virtuosic intricate bluesy clean"
)
SPEEDS: dict[str, tuple[str, ...]] = {  # adjectives
    "very slow": ("very slow", "extremely slow", "slow", "glacially paced"), "slow": ("slow", "slow-paced", "unhurried", "slow-moving"),
    "medium": ("mid-tempo", "medium-paced", "moderately paced", "medium-tempo"), "fast": ("fast", "fast-paced", "up-tempo", "brisk", "quick"),
    "very fast": ("very fast", "breakneck", "rapid", "fast", "frenetically fast"),
}  # fmt: skip
SPEED_NOUNS: dict[str, tuple[str, ...]] = {  # after "at a", "the tempo is"
    "very slow": ("very slow", "slow", "really slow"), "slow": ("slow", "leisurely", "unhurried"), "medium": ("medium", "moderate", "middling"),
    "fast": ("fast", "brisk", "quick", "high"), "very fast": ("very fast", "breakneck", "furious", "really fast"),
}  # fmt: skip
DRUM_WORDS: dict[str, tuple[str, ...]] = {
    "kick": ("a kick drum", "a bass drum", "punchy kicks", "kick hits"), "snare": ("a snare", "snare hits", "a cracking snare", "a snare drum"), "rim": ("rimshots", "rim clicks"),
    "clap": ("claps", "hand claps"), "hi-hat": ("hi-hats", "a hi-hat", "ticking hi-hats", "crisp hi-hats"), "tom": ("toms", "tom hits", "rumbling toms"),
    "crash": ("crash cymbals", "cymbal crashes", "crashing cymbals"), "ride": ("a ride cymbal", "a shimmering ride cymbal"),
}  # fmt: skip
VOWEL_SOUND = re.compile(r"(?![Uu]ni|[Uu]til|[Uu]k|[Ee]u|[Oo]ne\b|[Uu]se)[AEIOUaeiou]|8|11\b|18\b|FM\b|R&B|RnB|MIDI|[Hh]our|[Hh]onest|NES\b|SNES\b|S[A-Z]|L[A-Z]")  # fmt: skip


def is_held_out(wording: str) -> bool:
    """Whether a wording is kept from training."""
    digest = hashlib.sha256(f"wording {wording}".encode()).digest()
    return int.from_bytes(digest[:4], "big") < HELD_OUT_SHARE * 2**32


def allowed(options: Sequence[str], held_out: bool) -> list[str]:
    """The held-out ones, or the others; all, where a group has none of the kind asked for."""
    return [option for option in options if is_held_out(option) == held_out] or list(options)


def with_article(noun: str) -> str:
    """Puts "a" or "an" before it, by how it is spoken: an 808, a unison."""
    return ("an " if VOWEL_SOUND.match(noun) else "a ") + noun


def bare(noun: str) -> str:
    """Without its article."""
    return re.sub(r"^(a|an|the) ", "", noun)


def is_plural(noun: str) -> bool:
    head = re.split(
        r" (?:with|played|playing|in|stacked|on|holding|adding|answering|comping|keeping|underneath|for|of)\b", noun
    )[0]
    if re.match(r"(a|an|the) ", noun) and not noun.startswith("the "):
        return False
    return head in ("timpani", "orchestral timpani") or (head.endswith("s") and not head.endswith("ss"))


def as_modifier(noun: str) -> str:
    """As it stands before another noun: strings -> string (melody)."""
    word = bare(noun).removesuffix(" instrument")
    return word[:-1] if is_plural(noun) and word.endswith("s") else word


def join(parts: Sequence[str], last: str = " and ") -> str:
    """a, b and c"""
    return last.join([", ".join(parts[:-1]), parts[-1]]) if len(parts) > 1 else "".join(parts)
