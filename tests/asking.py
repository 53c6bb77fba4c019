"""Requests for downloads, put to a view without a server; the fixture `answers` closes them after a test."""

import csv
import io

from django.contrib.auth.models import AnonymousUser, Permission, User
from django.test import RequestFactory

from upstream.integrations.signals import export_failed, export_finished, export_started

SIGNALS = {"started": export_started, "finished": export_finished, "failed": export_failed}

NAMES = ["Aetna", "Cigna", "Humana"]

_answers = []


def create_user(name, *codenames, **flags):
    """Create a user with the permissions of these codenames."""
    user = User.objects.create(username=name, **flags)
    user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
    return user


def ask(view, query="", user=None, method="get", **options):
    request = getattr(RequestFactory(), method)(f"/x{query}", **options)
    request.user = user or AnonymousUser()
    answer = view.as_view()(request)
    _answers.append(answer)
    return answer


def close_answers():
    while _answers:
        _answers.pop().close()


def text(answer):
    """Return the body of a download."""
    assert answer.status_code == 200, answer.content
    return answer.getvalue().decode()


def rows(answer):
    """Return the rows of a download of CSV, the header among them."""
    return list(csv.reader(io.StringIO(text(answer), newline="")))


def refused(answer, status=400):
    """Return the words of an answer that is no download."""
    assert answer.status_code == status
    assert "Content-Disposition" not in answer
    return answer.content.decode()


class Told:
    """What the signals of one sender said."""

    def __init__(self, sender):
        self.sender = sender
        self.told = []
        self.receivers = []

    def __enter__(self):
        for name, signal in SIGNALS.items():

            def receive(sender, signal, name=name, **details):
                self.told.append((name, details))

            self.receivers.append((signal, receive))
            signal.connect(receive, sender=self.sender)
        return self.told

    def __exit__(self, *_):
        for signal, receive in self.receivers:
            signal.disconnect(receive, sender=self.sender)
