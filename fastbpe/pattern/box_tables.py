"""Covers of the named patterns for boxes.py.  Written by generate_boxes.py; a test proves each of them."""

# Name: classes of windows, rules, marks; the fields of Boxes in hexadecimal.
COVERS = {
    "cl100k": (
        "000102030405020202020206",
        "ffffffffffffffffffffffffffffffff5f5f5f5fff7fff5fffffffffffffffff9d465b19781878ffffffffffffffffff02b9"
        "a4ea87ea87fffffffffffffffffff7fffff7fff7fffff7ffffffffffffff4f2e0e0e030a130e7f7f7f7f7f7f7f7f492a1a0a"
        "010a057b7f7f7f7f7f7f7f7f4b2115000100017f7f7f7f7f7f7f7f7f0020144b004b007f7f7f7f7f7f7f7f7f7535357f357f"
        "357f757f7f7f7f7f7f7f"
        "",
        "007e",
    ),
    "gpt2": (
        "0001020304030303030303030305",
        "7f3f7f7f3fbf7fffffffffffffffffff3f1f3fbf1f5fbfffffffffffffffffff181112d410b1ffffffffffffffffffff170e"
        "0deb170effffffffffffffffffffefffffffefffffefffffffffffffffff"
        "",
        "e0",
    ),
    "llama3": (
        "000102030405020202020202020206",
        "ffffffffffffffffffffffffffffffffdfdfdfdfffffffdfffffffffffffffffeef55b4a784878ffffffffffffffffff010a"
        "a455875587ffffffffffffffffffbbffffbfffbfffffbfffffffffffffff9f5d1d1d0715271dffffffffffffffff92543414"
        "03140bf6ffffffffffffffff97402800000000ffffffffffffffffff00432b97039703ffffffffffffffffffeb6b6bff6bff"
        "6bff6bffffffffffffff"
        "",
        "00fc",
    ),
    "o200k": (
        "00010202020202020202020303030303030303030405060708090a",
        "ffffffffffffdfffdfdfffffffffffffb7bfbfbfbfbff7f7fff7bfbfffffffff1e0dbb9bbb9a525212523affffffffff21f2"
        "44644471ada971ad04ffffffffffefffdfffdfefffffefffdfffefffffffefcfcfcfcfcff7ffd7f7ffcfffffffffaf8f8f8f"
        "8f8f5d5d8f5d8fbfffffffff74edcf89cb0051710051dbffffffffff8a12307630ffae8affae20fffffffffffbffbdffbdff"
        "ffffffffbdffffffffff373777777737b2be33b2ff37ffffffff3535273535352c2c356cbdfdffffffff0303676537018080"
        "00801fffffffffff0800c8d2c8000b0b003f40ffffffffffcbcbefffcbcbcbcbcbcbcbffcbffffffb3111111111145f5014d"
        "5711ffffffff12110919111110b0111055ffffffffff4100080810008022008054ffffffffff04008e928e01264401362aff"
        "ffffffffeeeeeefeeeefeeeeefeeeeffeeffffffc9c1c7c5c3c14161c155ebc1ffffffffc9c195d1c3c16060c160e3ffffff"
        "ffff8800011147000000000027ffffffffff2000307630802028806110ffffffffff18183f7f3e98181898183eff18ffffff"
        "080104000400060600060e000f0f0f0f08010000000000000000060f0f0f0f0f0a010000000000000000040f0f0f0f0f0001"
        "0004000a000a0a00000f0f0f0f0f0b010505050b01010b01050f010f0f0f"
        "",
        "0000fcffff0f",
    ),
    "qwen2": (
        "000102030405020202020202020206",
        "ffffffffffffffffffffffffffffffffdfdfdfdfffffffdfffffffffffffffff5dffd751f450f4ffffffffffffffffff02ff"
        "28e60be60bffffffffffffffffffbbffffbfffbfffffbfffffffffffffff5f1d1d1d0715271d7f7f7f7f7f7f7f7f52143414"
        "03140b767f7f7f7f7f7f7f7f570328000000007f7f7f7f7f7f7f7f7f00032b570357037f7f7f7f7f7f7f7f7f6b2b2b7f2b7f"
        "2b7f2b7f7f7f7f7f7f7f"
        "",
        "007c",
    ),
    "qwen3.5": (
        "00010203040506020202020202020207",
        "ffffffffffffffffffffffffffffffffefefefefffffefffefffffffffffffffaeff6b2a78286b78ffffffffffffffff01ff"
        "947587759487ffffffffffffffffdbffffdfffdfffffffdfffffffffffff6f2d2d2d07252d172d7f7f7f7f7f7f7f62243424"
        "0324240b767f7f7f7f7f7f7f67031800000000007f7f7f7f7f7f7f7f00031b6703671b037f7f7f7f7f7f7f7f5b1b1b7f1b7f"
        "1b1b7f1b7f7f7f7f7f7f"
        "",
        "007c",
    ),
    "r50k": (
        "0001020304030303030305",
        "7f3f7f7f3fbf7fffffffffffffffffff3f1f3fbf1f5fbfffffffffffffffffff181112d410b1ffffffffffffffffffff170e"
        "0deb170effffffffffffffffffffefffffffefffffefffffffffffffffff"
        "",
        "e0",
    ),
    "tekken": (
        "00010203040506070809",
        "fffffffffffff7fff7ffffffffffffff3fbfbfbfbfbf7f7fffbfbfffffffffffa2ffbdb5bdb0646420acffffffffffff09ff"
        "424a426d9b996d02ffffffffffffdffff7fff7dfffffdff7ffdfffffffff7f5f5f5f5f5fb7bfd7ff5fffffffffff6f4f4f4f"
        "4f4f9d9d4f4feffffffffffff5ff5f495b4191b101dbffffffffffff0affa0b6a0be6e4abe20fffffffffffffbffedffedff"
        "ffffffedffffffffffffd39387939793a3bb83ff93ffffffffff529287929692181892befeffffffffff8007070217002060"
        "001fffffffffffff0f07687568874f0f8740ffffffffffff6f6f6f7f6fef6f6fef6fff6fffffffff6b484048c8481c5f08fc"
        "48ffffffffff6848004888484043489cffffffffffff24000000c800010200dcffffffffffff100011c9110012340002ffff"
        "ffffffff3737b7ffb737373737b7ff37ffffffff1505010525052c2e053f053f3f3f3f3f1505010505050606052f3f3f3f3f"
        "3f3f190000000400000000223f3f3f3f3f3f020002260219021a19003f3f3f3f3f3f180022262219000019223f003f3f3f3f"
        "",
        "0000f8ff3f",
    ),
}
