from marssep.corpus.labels import class_of, family_of, load_classes


def test_every_class_can_be_asked_for_in_several_ways():
    classes = load_classes()
    assert len(classes) >= 90
    for sound in classes.values():
        assert sound.captions[0] == sound.text
        assert 4 <= len(set(sound.captions)) == len(sound.captions) <= 9, sound.label
        assert sound.group in {"instrument", "sound", "speech"}


def test_texts_tell_classes_apart():
    texts = [text for sound in load_classes().values() for text in sound.captions]
    twice = {text for text in texts if texts.count(text) > 1}
    assert not twice


def test_families_keep_near_synonyms_apart_and_leave_strings_alone():
    assert family_of("sea_waves") == family_of("water") == family_of("rain")
    assert family_of("chainsaw") == family_of("saw")
    assert len({family_of(label) for label in ("violin", "cello", "double_bass", "baby_cry")}) == 4


def test_an_unknown_label_is_named_by_its_words():
    sound = class_of("slit_drum")
    assert (sound.text, sound.family, sound.group) == ("slit drum", "slit_drum", "sound")
