"""Ways to name the styles. A name that speaks of an instrument or of a metre is used only where the window has it."""

import re

# style of `styles.STYLES` -> names; "needs" in `NEEDS`
STYLE_NAMES: dict[str, tuple[str, ...]] = {
    "string quartet": ("string quartet", "chamber music", "classical chamber music"),
    "orchestral battle": ("orchestral battle music", "epic film score", "cinematic battle music", "battle theme"),
    "orchestral adventure": ("orchestral adventure music", "adventure film score", "cinematic adventure music"),
    "epic trailer": ("epic trailer music", "trailer music", "cinematic trailer music"),
    "horror suspense": ("horror suspense music", "horror film music", "suspense music", "horror score"),
    "viennese waltz": ("Viennese waltz", "classical waltz", "ballroom waltz"), "musette waltz": ("musette waltz", "French waltz", "Parisian waltz"),
    "baroque harpsichord": ("baroque harpsichord music", "baroque music", "baroque classical music"), "piano nocturne": ("piano nocturne", "nocturne", "romantic classical music"),
    "minimalist piano": ("minimalist piano music", "minimalist music", "contemporary classical music"), "church organ chorale": ("church organ chorale", "chorale", "church music", "sacred music"),
    "military march": ("military march", "march", "marching band tune"), "lullaby music box": ("music box lullaby", "lullaby", "children's lullaby"),
    "fairy tale": ("fairy-tale music", "fairy tale film score", "magical film music"), "synthwave": ("synthwave", "retrowave", "80s-style synth music", "outrun"),
    "techno": ("techno", "club techno", "techno dance music"), "house": ("house", "house music", "club house music"), "trance": ("trance", "trance music", "club trance"),
    "drum and bass": ("drum and bass", "drum'n'bass", "DnB", "jungle-style drum and bass"), "dubstep": ("dubstep", "dubstep music", "brostep-like dubstep"),
    "ambient pad": ("ambient", "ambient music", "atmospheric music", "ambient soundscape"), "space drone": ("space ambient", "drone music", "dark ambient drone", "ambient drone"),
    "trip hop": ("trip hop", "trip-hop", "downtempo trip hop"), "lo-fi hip hop": ("lo-fi hip hop", "lofi hip-hop", "lo-fi", "chillhop"),
    "boom bap hip hop": ("boom bap", "boom bap hip hop", "old-school hip-hop", "boom bap beat"), "trap": ("trap", "trap beat", "trap hip hop"),
    "electro pop": ("electro pop", "electropop", "synth pop"), "eurodance": ("eurodance", "Eurodance", "euro dance pop"), "italo disco": ("italo disco", "Italo disco", "80s disco"),
    "chiptune arcade": ("chiptune", "8-bit music", "arcade game music", "retro video game music", "8-bit chiptune"), "funk": ("funk", "funk music", "groove-based funk"),
    "disco": ("disco", "disco music", "classic disco"), "soul": ("soul", "soul music", "classic soul"), "gospel": ("gospel", "gospel music"), "reggae": ("reggae", "roots reggae", "reggae music"),
    "dub": ("dub", "dub reggae"), "ska": ("ska", "ska music", "upstroke ska"), "afrobeat": ("afrobeat", "Afrobeat", "West African afrobeat"),
    "swing jazz": ("swing jazz", "swing", "jazz swing music"), "big band": ("big band jazz", "big band music", "swing jazz"), "lounge jazz trio": ("lounge jazz", "cocktail jazz", "lounge music"),
    "jazz waltz": ("jazz waltz", "waltz-time jazz"), "dixieland": ("dixieland", "Dixieland jazz", "New Orleans jazz", "trad jazz"), "ragtime": ("ragtime", "ragtime music", "rag"),
    "boogie-woogie piano": ("boogie-woogie piano music", "boogie-woogie", "boogie"), "jazz fusion": ("jazz fusion", "fusion", "jazz-funk fusion"),
    "surf rock": ("surf rock", "surf music", "60s surf rock"), "punk rock": ("punk rock", "punk", "garage punk"), "hard rock": ("hard rock", "classic hard rock"),
    "heavy metal": ("heavy metal", "metal", "metal music"), "speed metal": ("speed metal", "thrash-like metal", "speed metal music"), "doom metal": ("doom metal", "doom", "sludgy doom metal"),
    "indie rock": ("indie rock", "indie", "alternative rock"), "soft rock ballad": ("soft rock ballad", "rock ballad", "soft rock", "power ballad"), "country": ("country", "country music", "country and western"),
    "slow blues": ("slow blues", "blues", "twelve-eight blues"), "rockabilly": ("rockabilly", "rock and roll", "fifties-style rock and roll"),
    "arcade boss fight": ("arcade boss fight music", "boss battle music", "video game boss music", "boss battle theme"), "platform game": ("platform game music", "cheery video game music", "platformer music"),
    "puzzle game": ("puzzle game music", "video game music", "casual game music"), "corporate uplifting": ("corporate music", "corporate background music", "uplifting corporate pop"),
    "spy theme": ("spy theme", "spy film music", "secret agent theme"), "western": ("western film music", "spaghetti western music", "western theme"),
    "bossa nova": ("bossa nova", "Brazilian bossa nova", "bossa"), "samba": ("samba", "Brazilian samba", "samba music"), "salsa": ("salsa", "salsa music", "Latin salsa"), "cumbia": ("cumbia", "cumbia music", "Latin cumbia"),
    "tango": ("tango", "Argentine tango", "tango music"), "flamenco guitar": ("flamenco guitar music", "flamenco", "Spanish flamenco"), "klezmer": ("klezmer", "klezmer music", "Jewish folk music"),
    "middle eastern": ("Middle Eastern music", "oriental-sounding music", "Arabic-style music"), "raga fusion": ("raga fusion", "Indian fusion", "Indian-inspired music"),
    "japanese koto": ("Japanese koto music", "traditional Japanese music", "Japanese-style music"), "calypso": ("calypso", "Caribbean calypso", "calypso music"),
    "celtic reel": ("Celtic reel", "reel", "Irish reel", "Celtic folk music"), "irish jig": ("Irish jig", "jig", "Celtic jig", "Irish folk music"), "folk ballad": ("folk ballad", "folk", "folk music"),
    "bluegrass": ("bluegrass", "bluegrass music"), "polka": ("polka", "oompah polka", "polka music"), "sea shanty": ("sea shanty", "shanty", "sailor's song"),
    "medieval dance": ("medieval dance", "medieval music", "medieval folk dance"),
}  # fmt: skip
# a word in a name -> instruments of which one must be heard
NEEDS: dict[str, tuple[str, ...]] = {
    "harpsichord": ("harpsichord",), "piano": ("piano", "bright piano", "honky-tonk piano"), "organ": ("church organ",), "music box": ("music box",), "koto": ("koto",),
    "guitar": ("nylon guitar", "acoustic guitar"), "orchestral": ("string section", "brass section", "french horn", "tremolo strings", "slow strings", "pizzicato strings"),
    "synth": ("square lead", "saw lead", "polysynth", "synth bass", "rubber synth bass", "warm pad", "synth strings", "synth brass", "sweep pad", "crystal synth"),
    "big band": ("brass section", "trumpet", "trombone", "tenor sax", "alto sax"), "drum": ("drum kit", "electronic drum kit", "808 drum machine", "room drum kit"),
    "beat": ("drum kit", "electronic drum kit", "808 drum machine", "room drum kit", "rock drum kit"), "boom bap": ("drum kit", "electronic drum kit", "808 drum machine", "room drum kit"),
    "drone": ("bowed pad", "sweep pad", "choir", "slow strings", "halo pad", "contrabass"), "band": ("brass section", "trumpet", "trombone", "tuba", "tenor sax", "alto sax", "clarinet", "piccolo"),
}  # fmt: skip
METRES = {
    "waltz": ("3/4",),
    "jig": ("6/8",),
    "twelve-eight": ("12/8",),
    "march": ("4/4", "2/4"),
    "reel": ("4/4", "2/2"),
}
QUARTET = ("violin", "viola", "cello", "contrabass")
# wider genres that name an instrument or would be false of some windows
UNSURE_GENRES = frozenset(
    {"piano", "acoustic", "orchestral", "hybrid", "percussive", "drone", "big band", "brass band"}
)
GENRE_NAMES = {
    "celtic": "Celtic", "french": "French", "latin": "Latin", "japanese": "Japanese", "indian": "Indian", "middle eastern": "Middle Eastern", "caribbean": "Caribbean", "world": "world music",
    "r&b": "R&B", "horror": "horror film music", "sacred": "sacred music", "western": "western film music", "dance": "dance music", "march": "march",
}  # fmt: skip
# names that are things themselves; others stand before "piece" or "track"
COUNTABLE = re.compile(
    r"(waltz|march|reel|jig|lullaby|ballad|tango|polka|\brag|quartet|chorale|theme|shanty|tune|song|nocturne|dance|beat|score|soundscape)$"
)
ADJECTIVES = re.compile(
    r"(orchestral|electronic|classical|baroque|medieval|ambient|Celtic|French|Latin|Japanese|Indian|Eastern|Caribbean|lounge|indie|drone)$"
)


def names_that_fit(style: str, instruments: set[str], metre: str) -> tuple[str, ...]:
    """The names of a style that are true beside these instruments and this metre. May be empty."""

    def fits(name: str) -> bool:
        if "quartet" in name:
            return len(instruments) >= 3 and instruments <= set(QUARTET)
        words = name.lower()
        if any(word in words and metre not in metres for word, metres in METRES.items()):
            return False
        return all(instruments & set(needed) for word, needed in NEEDS.items() if re.search(rf"\b{word}", words))

    return tuple(name for name in STYLE_NAMES.get(style, (style,)) if fits(name))


def genres_that_fit(genres: tuple[str, ...], metre: str) -> tuple[str, ...]:
    found = (GENRE_NAMES.get(genre, genre) for genre in genres if genre not in UNSURE_GENRES)
    return tuple(name for name in found if not any(word in name and metre not in m for word, m in METRES.items()))
