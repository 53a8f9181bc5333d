# A newer nginx in the place of the one that the base image has; its context is the folder with the program.
FROM nginx:alpine
COPY nginx /usr/sbin/nginx
