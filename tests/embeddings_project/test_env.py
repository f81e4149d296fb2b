import pytest
from django.core.exceptions import ImproperlyConfigured

from embeddings_project.env import Env


def complaint(env):
    with pytest.raises(ImproperlyConfigured) as caught:
        env.finish()
    return str(caught.value)


def test_nothing_set_nothing_wrong():
    env = Env({})
    assert env.integer("PORT", 8000, minimum=1, maximum=65535) == 8000
    assert env.boolean("DEBUG", default=False) is False
    assert env.words("ALLOWED_HOSTS") == ()
    env.finish()


def test_empty_means_unset():
    env = Env({"OPENAI_API_KEY": " ", "PORT": ""})
    assert env.secret("OPENAI_API_KEY") is None
    assert env.integer("PORT", 8000, minimum=1, maximum=65535) == 8000
    env.finish()


@pytest.mark.parametrize("value", ["eighty", "0", "65536", "80.0", "1e3"])
def test_bad_number_is_named_with_its_range(value):
    env = Env({"PORT": value})
    env.integer("PORT", 8000, minimum=1, maximum=65535)
    message = complaint(env)
    assert "PORT" in message
    assert "65535" in message


@pytest.mark.parametrize("value", ["nan", "-1", "0", "soon", "inf"])
def test_bad_seconds_are_refused(value):
    env = Env({"EMBEDDINGS_REQUEST_TIMEOUT": value})
    env.seconds("EMBEDDINGS_REQUEST_TIMEOUT", 30, maximum=600)
    assert "EMBEDDINGS_REQUEST_TIMEOUT" in complaint(env)


def test_bad_choice_names_the_choices():
    env = Env({"EMBEDDINGS_FALLBACK": "maybe"})
    env.choice("EMBEDDINGS_FALLBACK", "any", ["any", "off"])
    assert "any, off" in complaint(env)


@pytest.mark.parametrize(
    "value", ["api.example", "ftp://a", "http://", "http://a:99999"]
)
def test_bad_url_is_refused_without_being_printed(value):
    env = Env({"OPENAI_BASE_URL": value})
    env.url("OPENAI_BASE_URL")
    assert "http://a" not in complaint(env)


@pytest.mark.parametrize("value", ["[]", "{", "1"])
def test_bad_json_object_is_refused(value):
    env = Env({"EMBEDDINGS_FALLBACK_CHAIN": value})
    env.json_object("EMBEDDINGS_FALLBACK_CHAIN", {})
    assert "EMBEDDINGS_FALLBACK_CHAIN" in complaint(env)


def test_typo_under_our_prefix_is_refused_with_the_right_name():
    env = Env({"EMBEDDINGS_FALBACK": "off"})
    env.choice("EMBEDDINGS_FALLBACK", "any", ["any", "off"])
    assert "did you mean EMBEDDINGS_FALLBACK?" in complaint(env)


def test_near_miss_under_a_shared_prefix_is_refused():
    env = Env({"OPENAI_API_KEYS": "sk-x"})
    env.secret("OPENAI_API_KEY")
    assert "did you mean OPENAI_API_KEY?" in complaint(env)


@pytest.mark.parametrize("name", ["OPENAI_ORG_ID", "GOOGLE_CLOUD_PROJECT", "PATH"])
def test_other_tools_variables_are_left_alone(name):
    env = Env({name: "x"})
    env.secret("OPENAI_API_KEY")
    env.secret("GOOGLE_API_KEY")
    env.finish()


def test_secret_may_come_from_a_file(tmp_path):
    (tmp_path / "key").write_text("sk-1\n")
    env = Env({"OPENAI_API_KEY_FILE": str(tmp_path / "key")})
    assert env.secret("OPENAI_API_KEY") == "sk-1"
    env.finish()


def test_unreadable_secret_file_is_named(tmp_path):
    env = Env({"OPENAI_API_KEY_FILE": str(tmp_path / "none")})
    env.secret("OPENAI_API_KEY")
    assert "OPENAI_API_KEY_FILE cannot be read" in complaint(env)


def test_secret_given_twice_is_refused(tmp_path):
    (tmp_path / "key").write_text("b")
    env = Env({"JWT_X": "a", "JWT_X_FILE": str(tmp_path / "key")})
    env.secret("JWT_X")
    assert "keep one of them" in complaint(env)


def test_all_problems_are_named_at_once():
    env = Env({"PORT": "x", "AUTH_MOD": "y"})
    env.integer("PORT", 1, minimum=1, maximum=2)
    env.choice("AUTH_MODE", "single_user", ["single_user"])
    message = complaint(env)
    assert "PORT" in message
    assert "AUTH_MODE" in message


def test_origins_are_taken_as_browsers_send_them():
    given = (
        "https://app.example, http://localhost:3000,app://obsidian.md,http://[::1]:5"
    )
    env = Env({"CORS_ALLOWED_ORIGINS": given})
    assert len(env.origins("CORS_ALLOWED_ORIGINS")) == 4
    env.finish()


@pytest.mark.parametrize(
    "value", ["*", "app.example", "https://app.example/", "https://", "https://a?b"]
)
def test_what_is_no_origin_is_named(value):
    env = Env({"CORS_ALLOWED_ORIGINS": value})
    env.origins("CORS_ALLOWED_ORIGINS")
    assert "CORS_ALLOWED_ORIGINS" in complaint(env)


@pytest.mark.parametrize("after", ["", "!!", "c2hvcnQ=", "A" * 100])
def test_signing_secret_that_no_library_would_take_is_refused(after):
    env = Env({"MEDIA_WEBHOOK_SECRET": f"whsec_{after}"})
    env.signing_secret("MEDIA_WEBHOOK_SECRET")
    message = complaint(env)
    assert "MEDIA_WEBHOOK_SECRET must have base64" in message
    assert not after or after not in message


@pytest.mark.parametrize("value", ["whsec_" + "A" * 32, "any text", "whsec", None])
def test_signing_secret_is_taken_as_it_is(value):
    env = Env({"MEDIA_WEBHOOK_SECRET": value or ""})
    assert env.signing_secret("MEDIA_WEBHOOK_SECRET") == value
    env.finish()
