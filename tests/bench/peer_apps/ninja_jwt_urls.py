from django.urls import path
from ninja_extra import NinjaExtraAPI
from ninja_jwt.authentication import JWTAuth
from ninja_jwt.controller import NinjaJWTDefaultController

api = NinjaExtraAPI()
api.register_controllers(NinjaJWTDefaultController)


@api.get("/me", auth=JWTAuth())
def me(request):
    return {"id": request.user.id, "username": request.user.username, "email": request.user.email}


urlpatterns = [path("api/", api.urls)]
