from django.http import HttpResponse


def replacing(get_response):
    """Raise or answer something else after the view, as `?instead=` says."""

    def middleware(request):
        response = get_response(request)
        match request.GET.get("instead"):
            case "error":
                raise ValueError("the middleware fails")
            case "answer":
                return HttpResponse("something else", status=203)
        return response

    return middleware
